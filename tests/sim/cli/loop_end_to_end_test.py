"""`mmoe loop` with the real programs on a model of a few thousand weights: every file, resuming, refusing."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
MMOE = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin" / "mmoe"
STEPS, SEQ_LEN, GLOBAL_BATCH = 60, 32, 8
FILES = (
    "job.json",
    "plan.json",
    "metrics.jsonl",
    "profile.json",
    "calibration.json",
    "plan_calibrated.json",
    "eval.json",
    "allocation.json",
    "budget.json",
    "loop.json",
    "report.html",
    "data/tokens.json",
)

pytestmark = pytest.mark.skipif(
    not MMOE.with_name("mmoe-train").exists() or not MMOE.exists(), reason="mmoe and mmoe-train are not built"
)


def write_job(folder):
    """A job and its text: sentences of a small grammar, in documents apart by blank lines."""
    generator = random.Random(3)
    nouns, verbs = ("the dog", "a bird", "my friend", "the old king", "no one"), ("sees", "hears", "follows", "forgets")
    documents = [
        " ".join(f"{generator.choice(nouns)} {generator.choice(verbs)} {generator.choice(nouns)}." for _ in range(30))
        for _ in range(200)
    ]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n")
    job = {
        "model": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "vocab_size": 320,
            "num_experts": 4,
            "expert_hidden_size": 16,
        },
        "hardware": {"device": "cpu"},
        "training": {
            "seq_len": SEQ_LEN,
            "micro_batch_size": 4,
            "global_batch_size": GLOBAL_BATCH,
            "precision": "fp32",
            "learning_rate": 5e-3,
            "tokens": STEPS * SEQ_LEN * GLOBAL_BATCH,
            "checkpoint_interval": 10,
            "seed": 1,
        },
        "elastic": {
            "k_min": 1,
            "k_max": 3,
            "granularity": "layer",
            "sampling": "uniform",
            "budget": {"kind": "at_most", "sum_k": 4},
        },
        "data": {"text": ["text.txt"], "tokenizer": "sentencepiece", "vocab_size": 320},
        "loop": {"allocation_mean_k": 2, "eval_sequences": 16},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def loop(job, run, *flags):
    return subprocess.run(
        [str(MMOE), "loop", "--job", str(job), "--out", str(run), *flags], capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(job, run folder, what it printed) of a loop that was interrupted in training and then went on."""
    folder = tmp_path_factory.mktemp("loop")
    job, run = write_job(folder), folder / "run"
    first = subprocess.Popen(
        [str(MMOE), "loop", "--job", str(job), "--out", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while first.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, messages = first.communicate(timeout=120)
    if first.returncode == 0:  # a very fast machine: everything was done before the signal came
        assert (run / "loop.json").exists()
    else:
        assert first.returncode == 128 + signal.SIGINT, messages
        assert "run the same command again" in messages
        assert not (run / "loop.json").exists()
    done = loop(job, run, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return job, run, done.stdout


def test_every_file_is_there(finished):
    _, run, _ = finished
    assert [name for name in FILES if not (run / name).exists()] == []
    assert not list(run.rglob("*.tmp*"))


def test_every_step_ran_once(finished):
    _, run, _ = finished
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))


def test_the_summary_is_what_is_printed(finished):
    _, run, printed = finished
    summary = json.loads((run / "loop.json").read_text())
    assert json.loads(printed) == summary
    for quantity in ("peak_allocated_bytes", "median_step_peak_allocated_bytes", "step_seconds"):
        assert summary[quantity]["measured"] > 0 and summary[quantity]["predicted_after"] > 0
    assert set(summary["evaluation"]["loss_by_k"]) == {"1", "2", "3"}
    assert summary["evaluation"]["bits_per_byte_by_k"]["3"] < summary["text"]["unigram_entropy_bits_per_byte"]
    assert len(summary["allocation"]["k_per_layer"]) == 2
    assert abs(summary["peak_allocated_bytes"]["error_fraction_after"]) < 0.02


def test_every_draw_keeps_the_budget(finished):
    _, run, _ = finished
    draws = [
        draw for line in (run / "metrics.jsonl").read_text().splitlines() for draw in json.loads(line)["k_per_layer"]
    ]
    assert len(draws) == STEPS * 2
    assert max(map(sum, draws)) <= 4


def test_the_page_shows_every_figure(finished):
    _, run, _ = finished
    page = (run / "report.html").read_text()
    assert page.count("<figure>") == 7 and "Not drawn" not in page


def test_a_finished_loop_is_not_run_again(finished):
    job, run, _ = finished
    before = (run / "loop.json").stat().st_mtime_ns
    again = loop(job, run)
    assert again.returncode == 0, again.stderr
    assert (run / "loop.json").stat().st_mtime_ns == before
    assert "measured" in again.stdout and "k per layer" in again.stdout


def test_another_job_is_refused_in_one_line(finished):
    job, run, _ = finished
    other = loop(job, run, "--elastic.k_max", "2")
    assert other.returncode == 2
    assert "elastic.k_max is 3 there and 2 here" in other.stderr and other.stderr.count("\n") == 1
