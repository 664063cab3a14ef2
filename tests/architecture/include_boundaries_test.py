"""Who may depend on whom, and what may stand where. The rules are those of the README's table of folders."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))

PARTS = ("sim", "train", "kernels", "profiles", "analysis", "tests")
ROOT_FILES = {
    "CMakeLists.txt",
    "CMakePresets.json",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "setup.sh",
    "requirements-peers.txt",
    "requirements-tools.txt",
    "requirements-torch.txt",
    ".clang-format",
    ".clang-tidy",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
}
ROOT_FOLDERS = set(PARTS) | {".ci"}
MAX_FILE_BYTES = 500_000
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}

# Box -> folders it may include from; the longest matching prefix names the box of a file.
ALLOWED = {
    "sim/units": ("sim/units",),
    "profiles": ("profiles", "sim/units"),
    "sim": ("sim", "profiles"),
    "kernels": ("kernels",),
    "train": ("train", "sim", "profiles", "kernels"),
    "tests/sim": ("tests/sim", "sim", "profiles"),
    "tests/profiles": ("tests/profiles", "profiles", "sim/units"),
    "tests/kernels": ("tests/kernels", "kernels"),
    "tests/train": ("tests/train", "train", "sim", "profiles", "kernels"),
}
# Box -> headers of others that it must not see.
FOREIGN = {
    "sim": r"torch/|ATen/|c10/|cuda|nccl",
    "profiles": r"torch/|ATen/|c10/|cuda|nccl",
    "kernels": r"torch/|ATen/|c10/",
}


def tracked_files():
    """Files of the tree as git would commit it; without git, everything outside build/."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True)
    if listing.returncode == 0:
        names = [name for name in listing.stdout.decode().split("\0") if name]
    else:
        names = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if path.is_file() and path.relative_to(ROOT).parts[0] not in ("build", ".git")
        ]
    return sorted(name for name in names if (ROOT / name).is_file())


FILES = tracked_files()
SOURCES = [name for name in FILES if pathlib.Path(name).suffix in SOURCE_SUFFIXES]
CMAKE_FILES = [name for name in FILES if name.endswith(("CMakeLists.txt", ".cmake"))]


def box_of(name):
    boxes = [box for box in ALLOWED if name.startswith(box + "/")]
    return max(boxes, key=len) if boxes else None


def includes(text):
    """(quoted, path) of each #include."""
    return [(mark == '"', path) for mark, path in re.findall(r'^\s*#\s*include\s*(["<])([^">]+)[">]', text, re.M)]


def include_errors(name, text):
    box = box_of(name)
    if box is None:
        return [f"{name}: stands in no box"]
    errors = []
    for quoted, path in includes(text):
        if quoted and not path.startswith(tuple(part + "/" for part in PARTS)):
            errors.append(f'{name}: "{path}" is no path from the root')
        elif quoted and not any(path.startswith(folder + "/") for folder in ALLOWED[box]):
            errors.append(f'{name}: {box} must not include "{path}"')
        elif not quoted and any(box == owner or box.startswith(owner + "/") for owner in FOREIGN):
            owner = next(owner for owner in FOREIGN if box == owner or box.startswith(owner + "/"))
            if re.match(FOREIGN[owner], path) and not (owner == "kernels" and "cuda" in path):
                errors.append(f"{name}: {box} must not include <{path}>")
    return errors


def without_comments(text):
    return re.sub(r"#[^\n]*", "", text)


def test_includes_follow_the_arrows():
    errors = [error for name in SOURCES for error in include_errors(name, (ROOT / name).read_text())]
    assert not errors, "\n".join(errors)


@pytest.mark.parametrize(
    "name, line, allowed",
    [
        ("sim/units/a.h", '#include "sim/config/job.h"', False),
        ("sim/config/a.h", '#include "profiles/store/profile.h"', True),
        ("sim/config/a.h", '#include "train/model/model.h"', False),
        ("sim/config/a.h", "#include <torch/torch.h>", False),
        ("profiles/store/a.h", '#include "sim/config/job.h"', False),
        ("profiles/store/a.h", '#include "sim/units/units.h"', True),
        ("kernels/combine/a.h", '#include "sim/units/units.h"', False),
        ("kernels/combine/a.cpp", '#include "profiles/store/profile.h"', False),
        ("train/bench/a.cpp", '#include "profiles/store/profile.h"', True),
        ("kernels/combine/a.cpp", "#include <ATen/ATen.h>", False),
        ("train/ops/a.cpp", '#include "kernels/combine/combine.h"', True),
        ("train/ops/a.cpp", '#include "combine.h"', False),
    ],
)
def test_the_rules_catch_a_wrong_include(name, line, allowed):
    assert (not include_errors(name, line)) == allowed


def test_the_top_level_holds_only_the_parts():
    folders = {name.split("/")[0] for name in FILES if "/" in name}
    files = {name for name in FILES if "/" not in name}
    assert folders <= ROOT_FOLDERS, f"unexpected folders: {folders - ROOT_FOLDERS}"
    assert files <= ROOT_FILES, f"unexpected files: {files - ROOT_FILES}"


@pytest.mark.parametrize("call, folder", [("find_package(Torch", "train/"), ("enable_language(CUDA", "kernels/")])
def test_torch_and_cuda_stay_in_their_part(call, folder):
    elsewhere = [
        name
        for name in CMAKE_FILES
        if call in without_comments((ROOT / name).read_text()) and not name.startswith(folder)
    ]
    assert not elsewhere


def link_errors(text, forbidden):
    """Names among `forbidden` that a CMake file's target_link_libraries calls name."""
    calls = re.findall(r"target_link_libraries\(([^)]*)\)", without_comments(text))
    return [target for target in forbidden for call in calls if re.search(rf"\b{target}\b", call)]


@pytest.mark.parametrize(
    "folder, forbidden",
    [
        ("profiles", ("mmoe::sim", "mmoe::cli", "mmoe::kernels", "mmoe::train")),
        ("sim", ("mmoe::kernels", "mmoe::train")),
        ("kernels", ("mmoe::sim", "mmoe::cli", "mmoe::train")),
    ],
)
def test_targets_follow_the_arrows(folder, forbidden):
    errors = [
        f"{name} links {target}"
        for name in CMAKE_FILES
        if name.startswith(folder + "/")
        for target in link_errors((ROOT / name).read_text(), forbidden)
    ]
    assert not errors


def test_every_header_is_guarded():
    unguarded = [
        name
        for name in SOURCES
        if name.endswith((".h", ".cuh")) and not re.search(r"^#pragma once$", (ROOT / name).read_text(), re.M)
    ]
    assert not unguarded


def test_no_large_file():
    large = [name for name in FILES if (ROOT / name).stat().st_size > MAX_FILE_BYTES]
    assert not large, "compress or drop: " + ", ".join(large)


def test_tests_mirror_the_tree():
    """tests/a/b_test.cpp stands for something in a/."""
    folders = {str(pathlib.Path(name).parent) for name in SOURCES}
    orphans = [
        name
        for name in SOURCES
        if name.startswith("tests/")
        and name.endswith("_test.cpp")
        and str(pathlib.Path(name).parent)[len("tests/") :] not in folders
    ]
    assert not orphans, "no source folder of that name: " + ", ".join(orphans)


def test_analysis_reads_files_only():
    # Run transformers beside ours for a comparison; they link nothing of ours.
    other_trainers = {"analysis/transformers_olmoe.py", "analysis/large_checkpoint.py"}
    pattern = re.compile(r"^\s*(import|from)\s+(ctypes|cffi|torch|transformers)\b", re.M)
    users = [
        name
        for name in FILES
        if name.startswith("analysis/") and name.endswith(".py") and pattern.search((ROOT / name).read_text())
    ]
    assert set(users) == other_trainers


def test_mmoe_links_no_libtorch():
    program = BUILD / "bin" / "mmoe"
    if not program.exists():
        pytest.skip("mmoe is not built")
    libraries = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"libtorch|libc10|libcud|libnccl", libraries), libraries
