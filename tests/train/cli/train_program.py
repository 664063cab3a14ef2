"""Runs `mmoe-train` from outside; a small job, and what must repeat of its runs."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
STEPS, INTERVAL = 12, 4
WORDS = "the a old grey king queen dog house river sees hears follows keeps and or but never often".split()


def program_folder():
    """MMOE_BIN, else bin of the tested build folder, else of the usual one."""
    folders = [os.environ.get("MMOE_BIN")]
    if "MMOE_BINARY_DIR" in os.environ:
        folders.append(os.path.join(os.environ["MMOE_BINARY_DIR"], "bin"))
    folders.append(ROOT / "build" / "bin")
    for folder in folders:
        if folder and (pathlib.Path(folder) / "mmoe-train").exists():
            return pathlib.Path(folder)
    return None


PROGRAM = program_folder() and program_folder() / "mmoe-train"
NEEDS_PROGRAM = pytest.mark.skipif(PROGRAM is None, reason="mmoe-train is not built")


def command(*words):
    return [str(PROGRAM), *map(str, words)]


# Idle threads that spin would slow each other on a machine that is busy with other tests.
ENVIRONMENT = os.environ | {"OMP_WAIT_POLICY": "passive"}


def run(*words, **options):
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, env=ENVIRONMENT, **options)


def done(*words):
    result = run(*words)
    assert result.returncode == 0, result.stderr
    return result


def error_line(result, code=2):
    """The one line that a failed command prints."""
    assert result.returncode == code, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mmoe-train: error: ") or lines[0].startswith("mmoe: error: "), lines
    return lines[0]


def refused(result):
    """A run that fails after its first steps prints their progress before the one error line."""
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("step ")]
    assert len(lines) == 1, lines
    return lines[0]


def write_job(path, **changes):
    """A job of fifty thousand weights; `**{"training.seed": 3}` changes keys."""
    job = {
        "model": {
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 2,
            "qk_norm": "per_head",
            "vocab_size": 256,
            "num_experts": 8,
            "expert_hidden_size": 16,
        },
        "hardware": {"device": "cpu"},
        "training": {
            "seq_len": 64,
            "micro_batch_size": 4,
            "global_batch_size": 8,
            "precision": "fp32",
            "learning_rate": 1e-2,
            "warmup_steps": 2,
            "checkpoint_interval": INTERVAL,
            "seed": 5,
        },
        "elastic": {"k_min": 1, "k_max": 6, "budget": {"kind": "at_most", "sum_k": 12}},
    }
    for key, value in changes.items():
        section, name = key.split(".")
        job[section][name] = value
    path.write_text(json.dumps(job))
    return path


UNLIKE = (  # times and memory
    "seconds", "data_seconds", "tokens_per_second", "peak_allocated_bytes", "peak_allocated_bytes_by_rank", "peak_reserved_bytes"
)


def metrics(run_folder):
    """What must repeat: all of each line but times and memory."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in UNLIKE} for line in lines]


def train_words(job, data, run_folder, *more, threads=2):
    """The words that start a training of STEPS steps."""
    return ("train", "--job", job, "--data", data, "--out", run_folder, "--steps", STEPS, "--threads", threads, *more)
