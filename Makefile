# `make demo` and `make test` are the two commands of the README. Whatever they write lies under build/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.PHONY: help build configure demo test clean

# Compilations at once: one a core, but no more than one for every 2 GiB of free memory (LibTorch's headers are large).
JOBS ?= $(shell awk -v cores="$$(nproc)" '/MemAvailable/ { n = int($$2 / 2097152); \
                     print n < 1 ? 1 : n < cores ? n : cores }' /proc/meminfo)
DEMO_JOB := profiles/presets/jobs/demo.json
DEMO_TEXT := build/demo_text/bible.txt
DEMO_OUT := build/demo

say = printf 'make $@: %s\n' $(1) >&2
fail = { printf 'make $@: error: %s\n' $(1) >&2; exit 1; }

help:
	@echo 'make build   install what is missing, build everything; programs in build/bin/'
	echo 'make demo    build the programs, then simulate, train, profile, calibrate and choose k per layer on real text'
	echo 'make test    build everything, run every test; ends with the count'
	echo 'make clean   remove build/ (the Python environment in the user cache stays)'
	echo 'JOBS=N       compilations at once (now $(JOBS))'
	echo 'Without CUDA and LibTorch, the simulator alone: cmake --workflow --preset sim'

# Sets up packages and the Python environment, then lets CMake write build/build.ninja.
configure:
	@./setup.sh
	source build/env.sh
	$(call say,'configuring in build/')
	cmake -G Ninja -S . -B build -DMMOE_CUDA=$$MMOE_CUDA -DMMOE_PYTHON=ON >build/configure.log 2>&1 || {
	  tail -n 30 build/configure.log >&2
	  $(call fail,'CMake could not configure (build/configure.log); after a change of compiler or LibTorch: make clean')
	}

build: configure
	@source build/env.sh
	$(call say,'compiling with $(JOBS) jobs')
	cmake --build build -j $(JOBS) || $(call fail,'the build failed; the first compiler error stands above')
	$(call say,'done: programs in build/bin/')

demo: configure
	@source build/env.sh
	$(call say,'compiling the programs with $(JOBS) jobs')
	cmake --build build -j $(JOBS) --target mmoe mmoe-train || \
	  $(call fail,'the build failed; the first compiler error stands above')
	if [ ! -s $(DEMO_TEXT) ]; then
	  $(call say,'writing the demo text to $(DEMO_TEXT)')
	  python3 analysis/demo_text.py $(DEMO_TEXT) || $(call fail,'could not write the demo text')
	fi
	$(call say,'running the loop on $(DEMO_JOB) into $(DEMO_OUT)')
	build/bin/mmoe loop --job $(DEMO_JOB) --out $(DEMO_OUT) || \
	  $(call fail,'the loop stopped; make demo goes on from there and rm -r $(DEMO_OUT) begins anew')
	$(call say,'done: open $(DEMO_OUT)/report.html')

test: build
	@source build/env.sh
	python3 tests/run_tests.py --build build --jobs $(JOBS)

clean:
	@rm -rf build
