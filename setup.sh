#!/usr/bin/env bash
# Installs what the build needs and is missing: Debian packages, then a Python virtual environment with pinned
# versions (CMake, ninja; LibTorch, the CUDA toolkit and what tests compare with unless CMAKE_PREFIX_PATH names a LibTorch).
# The environment lives in the user's cache, named by a hash of its requirements, so every clone shares it.
# Writes build/env.sh, which the Makefile reads. Run by `make`; safe to run again.
set -euo pipefail
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/mmoe

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

packages=(g++ make git ca-certificates ccache python3-venv
          libboost-program-options-dev libboost-context-dev libeigen3-dev libbenchmark-dev libgtest-dev
          nlohmann-json3-dev libsentencepiece-dev libgloo-dev
          python3-dev bible-kjv)

install_packages() {
  local missing=() name
  for name in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || fail "these packages are missing and this is no Debian or Ubuntu: ${missing[*]}; install their equivalents"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "need root or sudo to install: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  local log; log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
         apt-get install -yq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install: ${missing[*]} (log: $log); check the network and /etc/apt/sources.list"
  fi
  rm -f "$log"
}

# Leaves the environment's path in $venv.
make_environment() {
  local requirements=("$@") hash python log
  python=/usr/bin/python3
  [ -x "$python" ] || python=$(command -v python3) || fail "python3 not found; install it"
  hash=$({ cat "${requirements[@]}"; "$python" -c 'import sys; print(sys.version_info[:2])'; } | sha256sum | cut -c1-12)
  venv=$cache/venv-$hash
  mkdir -p "$cache"
  exec 9>"$venv.lock"
  flock 9
  if [ ! -e "$venv/complete" ]; then
    say "making the Python environment (about 5 GB with LibTorch and the CUDA toolkit; once per user)"
    rm -rf "$venv"
    log=$venv.log
    if ! { "$python" -m venv "$venv" &&
           "$venv/bin/pip" install --disable-pip-version-check --no-input --no-cache-dir \
             $(printf -- '-r %s ' "${requirements[@]}"); } >"$log" 2>&1; then
      tail -n 5 "$log" >&2
      fail "pip could not make the environment (log: $log); check the network and the free disk space"
    fi
    touch "$venv/complete"
  fi
  exec 9>&-
}

# The user's own LibTorch, if CMAKE_PREFIX_PATH names one (our cached environment, left by build/env.sh, is not one).
user_libtorch() {
  local dirs dir
  IFS=: read -ra dirs <<<"${CMAKE_PREFIX_PATH:-}"
  for dir in "${dirs[@]}"; do
    case $dir in "$cache"/venv-*) continue ;; esac
    if [ -e "$dir/share/cmake/Torch/TorchConfig.cmake" ]; then echo "$dir"; return; fi
  done
}

# ON if the CUDA kernels can be built. A LibTorch with CUDA cannot be used without a CUDA toolkit, one without does not need it.
cuda_of_user_libtorch() {
  if [ ! -e "$1/lib/libtorch_cuda.so" ]; then
    echo OFF
  elif [ -n "${CUDACXX:-}" ] || command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    echo ON
  else
    fail "the LibTorch in $1 was built with CUDA, but no nvcc was found; set CUDACXX to it, or unset CMAKE_PREFIX_PATH"
  fi
}

install_packages
torch=$(user_libtorch)
cuda=ON
if [ -n "$torch" ]; then
  cuda=$(cuda_of_user_libtorch "$torch")
  say "using the LibTorch in $torch (CUDA: $cuda)"
  make_environment requirements-tools.txt
else
  make_environment requirements-tools.txt requirements-torch.txt requirements-peers.txt
fi

mkdir -p build
{
  echo "export VENV='$venv'"
  echo "export PATH='$venv/bin':\"\$PATH\""
  echo "export MMOE_CUDA=$cuda"
  if [ -n "$torch" ]; then
    echo "export CMAKE_PREFIX_PATH='$CMAKE_PREFIX_PATH'"
    echo "unset MMOE_NVIDIA_ROOT"
  else
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "export CMAKE_PREFIX_PATH='$site/torch'"
    echo "export CUDACXX='$site/nvidia/cu13/bin/nvcc'"
    echo "export CUDAToolkit_ROOT='$site/nvidia/cu13' CUDA_TOOLKIT_ROOT_DIR='$site/nvidia/cu13'"
    echo "export MMOE_NVIDIA_ROOT='$site/nvidia'"
    echo "export MMOE_ARROW_ROOT='$site/pyarrow'"
  fi
} >build/env.sh.new
if [ -e build/env.sh ] && ! cmp -s build/env.sh build/env.sh.new; then
  rm -f build/CMakeCache.txt  # it names the former LibTorch and compilers
fi
mv build/env.sh.new build/env.sh
