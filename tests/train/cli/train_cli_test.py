"""`mmoe-train train` and `eval` from outside: resuming bit for bit, error lines, a full disk."""

import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from train_program import (ENVIRONMENT, NEEDS_PROGRAM, STEPS, WORDS, command, done, error_line, metrics,
                           refused, run, train_words, write_job)

pytestmark = NEEDS_PROGRAM


MOMENTS = ("first_moment", "second_moment")


def checkpoint_12(run_folder):
    return run_folder / "checkpoints" / "step_12"


def final_bytes(run_folder):
    folder = run_folder / "checkpoints" / f"step_{STEPS}"
    return [(folder / name).read_bytes() for name in ("weights.safetensors", "optimizer.safetensors")]


def expect_same_run(run_folder, whole):
    assert metrics(run_folder) == metrics(whole)
    assert final_bytes(run_folder) == final_bytes(whole)
    assert not list(run_folder.rglob("*.tmp*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """(job, run folder) of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    job = write_job(folder / "job.json")
    done(*train_words(job, data, folder / "run"))
    return job, folder / "run"


def interrupted(job, data, run_folder, lines, signal_number):
    """Starts a run, sends the signal when metrics.jsonl has `lines` lines, returns (exit status, messages)."""
    process = subprocess.Popen(
        command(*train_words(job, data, run_folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    path = run_folder / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        time.sleep(0.002)
    process.send_signal(signal_number)
    _, messages = process.communicate(timeout=120)
    return process.returncode, messages


def test_the_run_folder_holds_what_is_promised(whole):
    job, run_folder = whole
    lines = metrics(run_folder)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["tokens"] for line in lines] == [512 * step for step in range(1, STEPS + 1)]
    for line in lines:
        assert len(line["k_per_layer"]) == 2
        assert all(len(k) == 3 and sum(k) <= 12 and min(k) >= 1 and max(k) <= 6 for k in line["k_per_layer"])
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    assert lines[-1]["learning_rate"] == pytest.approx(1e-3)
    assert sorted(p.name for p in (run_folder / "checkpoints").iterdir()) == ["step_12", "step_4", "step_8"]
    assert json.loads((run_folder / "job.json").read_text())["training"]["seed"] == 5


def test_the_same_run_again_has_the_same_bits(whole, data, tmp_path):
    done(*train_words(whole[0], data, tmp_path / "run"))
    expect_same_run(tmp_path / "run", whole[1])


def test_another_seed_is_another_run(whole, data, tmp_path):
    done(*train_words(whole[0], data, tmp_path / "run", "--seed", 6))
    assert metrics(tmp_path / "run")[0]["loss"] != metrics(whole[1])[0]["loss"]


def test_a_stopped_run_resumes_bit_for_bit(whole, data, tmp_path):
    status, messages = interrupted(whole[0], data, tmp_path / "run", 5, signal.SIGTERM)
    assert status == 0 and "--resume" in messages.splitlines()[-1]
    at = len(metrics(tmp_path / "run"))
    assert 5 <= at < STEPS
    assert (tmp_path / "run" / "checkpoints" / f"step_{at}").exists()
    done(*train_words(whole[0], data, tmp_path / "run", "--resume"))
    expect_same_run(tmp_path / "run", whole[1])


def test_a_killed_run_resumes_bit_for_bit(whole, data, tmp_path):
    status, _ = interrupted(whole[0], data, tmp_path / "run", 6, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert 6 <= len(metrics(tmp_path / "run")) < STEPS
    done(*train_words(whole[0], data, tmp_path / "run", "--resume"))
    expect_same_run(tmp_path / "run", whole[1])


def test_a_run_killed_before_its_first_checkpoint_starts_again(whole, data, tmp_path):
    status, _ = interrupted(whole[0], data, tmp_path / "run", 1, signal.SIGKILL)
    assert status == -signal.SIGKILL
    done(*train_words(whole[0], data, tmp_path / "run", "--resume"))
    expect_same_run(tmp_path / "run", whole[1])


def test_resuming_a_finished_run_changes_nothing(whole, data, tmp_path):
    shutil.copytree(whole[1], tmp_path / "run")
    done(*train_words(whole[0], data, tmp_path / "run", "--resume"))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole[1] / "metrics.jsonl").read_bytes()
    expect_same_run(tmp_path / "run", whole[1])


def test_init_starts_from_the_weights_of_a_checkpoint(whole, data, tmp_path):
    job = write_job(tmp_path / "job.json", **{"training.learning_rate": 1e-30})
    words = list(train_words(job, data, tmp_path / "run", "--init", whole[1] / "checkpoints" / "step_12"))
    words[words.index("--steps") + 1] = 1
    done(*words)
    first = metrics(tmp_path / "run")[0]
    assert first["step"] == 1 and first["loss"] < metrics(whole[1])[0]["loss"] - 1
    trained = (whole[1] / "checkpoints" / "step_12" / "weights.safetensors").read_bytes()
    assert (tmp_path / "run" / "checkpoints" / "step_1" / "weights.safetensors").read_bytes() == trained


def tensors(path):
    """Of a safetensors file, each tensor's bytes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + size])
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: content[8 + size + begin:8 + size + end] for name, (begin, end) in spans.items()}


def test_init_takes_another_granularity_other_ks_and_other_data(whole, second_data, tmp_path):
    elastic = {"k_min": 2, "k_max": 4, "granularity": "micro_batch"}
    job = json.loads(write_job(tmp_path / "job.json", **{"training.seed": 6}).read_text()) | {"elastic": elastic}
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = list(train_words(tmp_path / "job.json", second_data, tmp_path / "run", "--init", checkpoint_12(whole[1])))
    words[words.index("--steps") + 1] = 3
    done(*words)
    lines = metrics(tmp_path / "run")
    drawn = [k for line in lines for k in line["k_per_layer"]]
    assert all(len(set(k)) == 1 and 2 <= k[0] <= 4 for k in drawn) and len({k[0] for k in drawn}) > 1
    assert lines[0]["loss"] < metrics(whole[1])[0]["loss"] - 1
    # Warmed up again: the schedule begins anew.
    assert [line["learning_rate"] for line in lines[:2]] == [line["learning_rate"] for line in metrics(whole[1])[:2]]


def test_init_may_take_the_optimizer_state_too(whole, data, tmp_path):
    start = checkpoint_12(whole[1])
    job = write_job(tmp_path / "job.json", **{"training.learning_rate": 1e-4, "training.warmup_steps": 1,
                                              "training.weight_decay": 0, "training.checkpoint_interval": 1})
    words = list(train_words(job, data, tmp_path / "anew", "--init", start))
    words[words.index("--steps") + 1] = 3
    done(*words)
    words[words.index("--out") + 1] = tmp_path / "kept"
    done(*words, "--init-optimizer")

    def state(folder, name):
        found = tensors(folder / f"{name}.safetensors")
        return {key: np.frombuffer(value, np.float32).astype(np.float64) for key, value in found.items()}

    before = state(start, "weights")
    old = state(start, "optimizer")
    anew, kept = (state(tmp_path / run / "checkpoints" / "step_1", "optimizer") for run in ("anew", "kept"))
    after = state(tmp_path / "kept" / "checkpoints" / "step_1", "weights")
    assert anew.keys() == kept.keys() == old.keys()
    rounding = 4 * 2.0**-24  # of two products and two sums, the largest term taken
    for name in old:
        beta = 0.9 if name.endswith(MOMENTS[0]) else 0.95
        largest = np.maximum(np.abs(anew[name]), np.abs(old[name])).max()
        assert np.abs(kept[name] - anew[name] - beta * old[name]).max() <= rounding * largest, name
    for name, weights in before.items():
        first, second = (kept[f"{name}.{moment}"] for moment in MOMENTS)
        # Adam's step with the bias corrected for twelve earlier updates and this one (Kingma & Ba 2015, algorithm 1).
        update = 1e-4 * first / (1 - 0.9**13) / (np.sqrt(second / (1 - 0.95**13)) + 1e-8)
        # The new weights are rounded to fp32; the update itself has a dozen roundings.
        allowed = 2.0**-24 * np.abs(after[name]) + 12 * 2.0**-24 * np.abs(update)
        assert (np.abs(weights - update - after[name]) <= allowed).all(), name

    shutil.copytree(tmp_path / "kept", tmp_path / "run")
    for step in (2, 3):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{step}")
    words[words.index("--out") + 1] = tmp_path / "run"
    done(*words, "--init-optimizer", "--resume")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "kept")
    for name in ("weights", "optimizer"):
        again, once = (tensors(tmp_path / run / "checkpoints" / "step_3" / f"{name}.safetensors")
                       for run in ("run", "kept"))
        assert again == once


def test_an_optimizer_state_that_is_not_there_is_refused(whole, data, tmp_path):
    words = train_words(whole[0], data, tmp_path / "run")
    assert "--init-optimizer needs --init" in error_line(run(*words, "--init-optimizer"))
    shutil.copytree(checkpoint_12(whole[1]), tmp_path / "weights")
    (tmp_path / "weights" / "optimizer.safetensors").unlink()
    state = json.loads((tmp_path / "weights" / "state.json").read_text())
    del state["files"]["optimizer.safetensors"]
    (tmp_path / "weights" / "state.json").write_text(json.dumps(state))
    line = error_line(run(*words, "--init", tmp_path / "weights", "--init-optimizer"))
    assert "holds no optimizer state" in line and str(tmp_path / "weights") in line
    assert not (tmp_path / "run").exists()


def test_frozen_parts_stay_bit_for_bit_and_the_run_resumes(whole, data, tmp_path):
    job = write_job(tmp_path / "job.json", **{"training.freeze": ["experts", "embedding"]})
    start = whole[1] / "checkpoints" / "step_12"
    words = train_words(job, data, tmp_path / "frozen", "--init", start)
    done(*words)
    before = tensors(start / "weights.safetensors")
    last = tmp_path / "frozen" / "checkpoints" / f"step_{STEPS}"
    after = tensors(last / "weights.safetensors")
    is_frozen = {name: name == "embedding" or ".experts." in name for name in before}
    assert sum(is_frozen.values()) == 1 + 3 * 2
    assert {name for name in before if after[name] == before[name]} == {name for name in before if is_frozen[name]}
    moments = {name.rsplit(".", 1)[0] for name in tensors(last / "optimizer.safetensors")}
    assert moments == {name for name in before if not is_frozen[name]}

    shutil.copytree(tmp_path / "frozen", tmp_path / "run")
    for step in (8, 12):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{step}")
    done(*train_words(job, data, tmp_path / "run", "--resume"))
    expect_same_run(tmp_path / "run", tmp_path / "frozen")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_12")
    line = error_line(run(*train_words(whole[0], data, tmp_path / "run", "--resume")))
    assert "training.freeze" in line


@pytest.mark.parametrize("freeze, word", [(["gate"], '"gate"'), (["mlp"], "no part of this model")])
def test_unknown_parts_to_freeze_are_refused(data, tmp_path, freeze, word):
    job = write_job(tmp_path / "job.json", **{"training.freeze": freeze})
    line = error_line(run(*train_words(job, data, tmp_path / "run")))
    assert "training.freeze" in line and word in line


def evaluate(run_folder, data, *more):
    return run("eval", "--checkpoint", run_folder / "checkpoints" / "step_12", "--data", data, "--threads", 2, *more)


def test_eval_at_each_k_and_at_an_allocation(whole, data, tmp_path):
    result = json.loads(evaluate(whole[1], data, "--k", "1,2,6", "--json").stdout)
    assert list(result["loss_by_k"]) == ["1", "2", "6"]
    assert all(0.5 < loss < 4.5 for loss in result["loss_by_k"].values())  # log(256) = 5.5 before training
    assert len(set(result["loss_by_k"].values())) == 3
    assert result["bits_per_byte"] == pytest.approx(result["loss_by_k"]["6"] / 0.6931471805599453)
    assert result["tokens"] == json.loads(pathlib.Path(f"{data}.json").read_text())["splits"]["valid"]["tokens"] - 1
    (tmp_path / "allocation.json").write_text(json.dumps({"k_per_layer": [2, 2, 2]}))
    allocated = json.loads(evaluate(whole[1], data, "--allocation", tmp_path / "allocation.json", "--json").stdout)
    assert allocated["loss"] == result["loss_by_k"]["2"]
    shorter = json.loads(evaluate(whole[1], data, "--k", "2", "--seq-len", 32, "--json").stdout)
    assert shorter["tokens"] == result["tokens"] and shorter["loss_by_k"]["2"] != result["loss_by_k"]["2"]
    table = evaluate(whole[1], data, "--split", "test").stdout.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    "more, words",
    [
        (["--k", "0"], ["--k 0", "num_experts = 8"]),
        (["--k", "9"], ["--k 9", "num_experts = 8"]),
        (["--k", "1.5"], ["--k 1.5"]),
        (["--split", "training"], ["--split", "training"]),
        (["--threads", "0"], ["--threads 0"]),
        (["--seq-len", "0"], ["--seq-len 0"]),
        (["--seq-len", "100000000"], ["--seq-len 100000000", "tokens of the split"]),
        (["--max-sequences", "-1"], ["--max-sequences -1"]),
    ],
)
def test_eval_refuses_bad_flags(whole, data, more, words):
    result = run("eval", "--checkpoint", whole[1] / "checkpoints" / "step_12", "--data", data, *more)
    line = error_line(result)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("k", [[2, 2], [0, 1, 2], [9, 1, 1], "2", [1.5, 2, 2]])
def test_eval_refuses_a_bad_allocation(whole, data, tmp_path, k):
    (tmp_path / "allocation.json").write_text(json.dumps({"k_per_layer": k}))
    line = error_line(evaluate(whole[1], data, "--allocation", tmp_path / "allocation.json"))
    assert "allocation.json" in line and "k_per_layer" in line


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model.vocab_size": 200}, ["tokens.json", "256", "model.vocab_size = 200"]),
        ({"hardware.device": "h1000"}, ["hardware.device", "h1000"]),
        ({"hardware.num_devices": 2}, ["hardware.num_devices = 2"]),
        ({"training.moe": {"dispatch": "capacity"}}, ["training.moe.dispatch", "dropless"]),
        ({"training.optimizer_precision": "bf16"}, ["training.optimizer_precision", "fp32"]),
        ({"training.precision": "fp8"}, ["training.precision", "fp8"]),
        ({"training.seq_len": 1 << 20}, ["training.seq_len"]),
        ({"elastic.budget": "auto", "hardware.usable_memory_gib": 1e-4}, ["elastic.budget = auto", "no budget fits"]),
        ({"model.num_heads": 5}, ["model."]),
    ],
)
def test_train_refuses_a_bad_job(data, tmp_path, changes, words):
    job = write_job(tmp_path / "job.json", **changes)
    line = error_line(run(*train_words(job, data, tmp_path / "run")))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_train_resolves_an_automatic_budget(data, tmp_path):
    job = write_job(tmp_path / "job.json", **{"elastic.budget": "auto"})
    result = run(*train_words(job, data, tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "job.json").read_text())["elastic"]["budget"]["sum_k"]


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="a GPU is here")
def test_train_refuses_a_gpu_job_without_a_gpu(data, tmp_path):
    job = write_job(tmp_path / "job.json", **{"hardware.device": "h100-sxm-80gb"})
    line = error_line(run(*train_words(job, data, tmp_path / "run")))
    assert "hardware.device = h100-sxm-80gb" in line and "GPU" in line


def test_train_refuses_missing_and_damaged_data(data, tmp_path):
    job = write_job(tmp_path / "job.json")
    assert "nowhere" in error_line(run(*train_words(job, tmp_path / "nowhere", tmp_path / "run")))
    for file in data.parent.glob("tokens*"):
        shutil.copy(file, tmp_path / file.name)
    os.truncate(tmp_path / "tokens.train.bin", 100)
    assert "tokens.train" in error_line(run(*train_words(job, tmp_path / "tokens", tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_used_run_folder(whole, data):
    before = {path: path.read_bytes() for path in whole[1].rglob("*") if path.is_file()}
    line = error_line(run(*train_words(whole[0], data, whole[1])))
    assert str(whole[1]) in line and "--resume" in line
    assert {path: path.read_bytes() for path in whole[1].rglob("*") if path.is_file()} == before


def test_resume_refuses_another_job_and_other_data(whole, data, tmp_path):
    shutil.copytree(whole[1], tmp_path / "run")
    job = write_job(tmp_path / "job.json", **{"training.learning_rate": 1e-3})
    assert "training.learning_rate" in error_line(run(*train_words(job, data, tmp_path / "run", "--resume")))
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"document {i} " * 40 for i in range(300)))
    done("data", "build", "--text", text, "--out", tmp_path / "other")
    line = error_line(run(*train_words(whole[0], tmp_path / "other", tmp_path / "run", "--resume")))
    assert "--data" in line and "other" in line
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole[1] / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def second_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("second")
    draw = random.Random(9)
    text = "\n\n".join(" ".join(draw.choices(WORDS, k=draw.randint(2, 60))) for _ in range(300))
    (folder / "text.txt").write_text(text)
    done("data", "build", "--text", folder / "text.txt", "--out", folder / "tokens")
    return folder / "tokens"


@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_a_blend_of_documents_kept_apart_resumes_bit_for_bit(data, second_data, tmp_path, packing):
    job = write_job(tmp_path / "job.json", **{"training.packing": packing, "training.reset_attention_mask": True})
    words = ["train", "--job", job, "--data", f"0.7:{data}", "--data", f"0.3:{second_data}", "--threads", 1]
    done(*words, "--out", tmp_path / "whole", "--steps", STEPS)
    done(*words, "--out", tmp_path / "run", "--steps", STEPS)
    assert final_bytes(tmp_path / "run") == final_bytes(tmp_path / "whole")
    last = sorted((tmp_path / "run" / "checkpoints").iterdir(), key=lambda step: int(step.name.split("_")[1]))[-1]
    shutil.rmtree(last)
    swapped = ["train", "--job", job, "--data", f"0.6:{data}", "--data", f"0.4:{second_data}", "--threads", 1]
    line = error_line(run(*swapped, "--out", tmp_path / "run", "--steps", STEPS, "--resume"))
    assert "weights" in line and "--init" in line
    done(*words, "--out", tmp_path / "run", "--steps", STEPS, "--resume")
    expect_same_run(tmp_path / "run", tmp_path / "whole")
    losses = json.loads(done("eval", "--checkpoint", tmp_path / "run" / "checkpoints" / last.name, "--data", second_data,
                             "--k", "1", "--json").stdout)
    assert losses["loss_by_k"]["1"] > 0


@pytest.mark.parametrize("values, words", [
    (["0.7:A", "B"], "or none"), (["0:A"], "above 0"), (["-1:A"], "above 0"), (["0.7:"], "names no token files"),
    (["1:A", "2:A"], "named twice"), (["1:A", "1:nowhere"], "nowhere")])
def test_train_refuses_an_unclear_blend(data, second_data, tmp_path, values, words):
    job = write_job(tmp_path / "job.json")
    named = [value.replace("A", str(data)).replace("B", str(second_data)) for value in values]
    flags = [word for value in named for word in ("--data", value)]
    line = error_line(run("train", "--job", job, *flags, "--out", tmp_path / "run", "--steps", 1))
    assert words in line


def test_a_truncated_checkpoint_is_refused_by_name(whole, data, tmp_path):
    for name in ("weights.safetensors", "optimizer.safetensors", "state.json"):
        run_folder = tmp_path / name
        shutil.copytree(whole[1], run_folder)
        path = run_folder / "checkpoints" / "step_12" / name
        os.truncate(path, path.stat().st_size // 2)
        line = error_line(run(*train_words(whole[0], data, run_folder, "--resume")))
        assert str(path) in line, line
        assert str(path) in error_line(evaluate(run_folder, data))
        assert (run_folder / "metrics.jsonl").read_bytes() == (whole[1] / "metrics.jsonl").read_bytes()


def test_init_refuses_another_shape(whole, data, tmp_path):
    job = write_job(tmp_path / "job.json", **{"model.expert_hidden_size": 48})
    line = error_line(run(*train_words(job, data, tmp_path / "run", "--init", whole[1] / "checkpoints" / "step_12")))
    assert "weights.safetensors" in line and "layers.0.experts" in line


@pytest.fixture
def small_disk(tmp_path, whole):
    """A file system with room for one checkpoint and a half."""
    one = sum(p.stat().st_size for p in (whole[1] / "checkpoints" / "step_4").iterdir())
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={one * 3 // 2}", "none", str(disk)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system needs root and mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_eval_reports_each_part_and_the_blend(whole, data, second_data, tmp_path):
    words = ["eval", "--checkpoint", whole[1] / "checkpoints" / "step_12", "--threads", 2, "--max-sequences", 8]
    alone = [json.loads(done(*words, "--data", name, "--k", "1,4", "--json").stdout) for name in (data, second_data)]
    weighed = ["--data", f"3:{data}", "--data", f"1:{second_data}"]
    blend = json.loads(done(*words, *weighed, "--k", "1,4", "--json").stdout)
    assert [part["prefix"] for part in blend["data"]] == [str(data), str(second_data)]
    assert [part["share"] for part in blend["data"]] == [0.75, 0.25]
    for part, expected in zip(blend["data"], alone):
        assert all(part[key] == expected[key] for key in ("loss_by_k", "bits_per_byte_by_k", "tokens"))
    for k in ("1", "4"):
        # Two products and a sum, each rounded once.
        expected = 0.75 * alone[0]["loss_by_k"][k] + 0.25 * alone[1]["loss_by_k"][k]
        assert blend["loss_by_k"][k] == pytest.approx(expected, rel=4 * sys.float_info.epsilon)
    assert blend["tokens"] == alone[0]["tokens"] + alone[1]["tokens"]

    (tmp_path / "allocation.json").write_text(json.dumps({"k_per_layer": [4, 4, 4]}))
    allocated = json.loads(done(*words, *weighed, "--allocation", tmp_path / "allocation.json", "--json").stdout)
    assert allocated["loss"] == blend["loss_by_k"]["4"]
    assert [part["loss"] for part in allocated["data"]] == [part["loss_by_k"]["4"] for part in blend["data"]]

    table = done(*words, "--data", data, "--data", second_data, "--k", "1,4").stdout.splitlines()
    assert [line.split()[-1] for line in table[1:]] == 2 * ["blend", str(data), str(second_data)]


def test_eval_refuses_an_unclear_blend(whole, data, second_data):
    words = ["eval", "--checkpoint", whole[1] / "checkpoints" / "step_12"]
    assert "or none" in error_line(run(*words, "--data", f"0.7:{data}", "--data", second_data))
    line = error_line(run(*words, "--data", data, "--data", second_data, "--seq-len", 10**8))
    assert "--seq-len" in line and str(data) in line



def test_a_full_disk_leaves_the_earlier_checkpoint_whole(whole, data, small_disk):
    result = run(*train_words(whole[0], data, small_disk / "run"))
    assert result.returncode == 1
    line = refused(result)
    assert "No space left on device" in line and "step_8" in line, line
    assert [p.name for p in (small_disk / "run" / "checkpoints").iterdir()] == ["step_4"]
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    done(*train_words(whole[0], data, small_disk / "run", "--resume"))
    expect_same_run(small_disk / "run", whole[1])


def test_a_file_size_limit_leaves_the_earlier_checkpoint_whole(whole, data, tmp_path):
    """What a quota does: writing the next checkpoint fails in its middle."""
    run_folder = tmp_path / "run"
    interrupted(whole[0], data, run_folder, 6, signal.SIGKILL)
    weights = (whole[1] / "checkpoints" / "step_4" / "weights.safetensors").stat().st_size

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (weights // 2, weights // 2))

    result = run(*train_words(whole[0], data, run_folder, "--resume"), preexec_fn=limit, restore_signals=False)
    assert result.returncode == 1
    assert "File too large" in refused(result)
    assert not list(run_folder.rglob("*.tmp*"))
    done(*train_words(whole[0], data, run_folder, "--resume"))
    expect_same_run(run_folder, whole[1])
