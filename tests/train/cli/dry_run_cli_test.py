"""`mmoe-train train --dry-run`: one rank of a job of any size, without device, data or the other ranks."""

import json
import os
import subprocess

import pytest

from train_program import ENVIRONMENT, NEEDS_PROGRAM, command, error_line, run, write_job

pytestmark = NEEDS_PROGRAM


def job_of(path, devices=4, parallelism=None, device="cpu", **changes):
    job = write_job(path, **{"training.micro_batch_size": 1, "training.global_batch_size": 4 * devices, **changes})
    content = json.loads(job.read_text())
    content["hardware"] = {"device": device, "num_devices": devices}
    content["parallelism"] = parallelism or {}
    del content["elastic"]["budget"]
    job.write_text(json.dumps(content))
    return job


def dry(job, *more):
    return run("train", "--job", job, "--dry-run", *more)


def test_says_first_whether_the_rank_agrees(tmp_path):
    job = job_of(tmp_path / "job.json", 4, {"expert": 2, "zero_stage": 1})
    result = dry(job, "--rank", 3)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{job}: rank 3 of 4 (stage 0) agrees with its plan")
    assert any(line.split()[:2] == ["peak", "allocated"] for line in lines)
    assert any(line.split()[:2] == ["expert", "all_to_all"] for line in lines)
    assert result.stderr == ""
    assert os.listdir(tmp_path) == ["job.json"]  # nothing was read or written


def test_json_is_whole_and_repeats(tmp_path):
    layout = {"pipeline": 3, "expert": 4}
    job = job_of(tmp_path / "job.json", 3072, layout, "h100-sxm-80gb", **{"training.precision": "bf16"})
    outcomes = []
    for _ in range(2):
        result = dry(job, "--rank", 3071, "--at-step", 5, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        outcomes.append(json.loads(result.stdout))
        outcomes[-1].pop("seconds")
    outcome = outcomes[0]
    assert outcome == outcomes[1]
    assert (outcome["agrees"], outcome["fits"], outcome["reason"]) == (True, True, None)
    assert (outcome["rank"], outcome["stage"], outcome["step"], outcome["num_devices"]) == (3071, 2, 5, 3072)
    parts = ("weights", "gradients", "optimizer", "buffers", "activations")
    for side in ("counted", "predicted"):
        total = sum(outcome["memory"][f"{part}_bytes"][side] for part in parts)
        assert total == outcome["memory"]["peak_allocated_bytes"][side]
    for collectives in outcome["messages"].values():
        for message in collectives.values():
            assert message["counted"] == message["predicted"]
    assert {"world", "data", "expert", "forward", "backward"} <= set(outcome["messages"])


def test_ranks_of_a_launcher_and_a_run_folder_are_ignored(tmp_path):
    job = job_of(tmp_path / "job.json")
    environment = ENVIRONMENT | {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}
    words = command("train", "--job", job, "--dry-run", "--data", "none", "--out", tmp_path / "run")
    result = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "run").exists()


def test_a_rank_whose_tensors_do_not_fit_is_refused(tmp_path):
    job = job_of(tmp_path / "job.json", 2, {}, "h100-sxm-80gb")
    result = dry(job, "--model.hidden_size", 16384, "--model.num_layers", 16, "--json")
    assert result.returncode == 3, result.stdout + result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["agrees"], outcome["fits"]) == (True, False)
    assert "usable on h100-sxm-80gb" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words, named",
    [
        (["--dry-run", "--rank", 4], "--rank 4 is none of"),
        (["--dry-run", "--rank", -1], "--rank -1 is none of"),
        (["--rank", 1, "--data", "d", "--out", "o"], "--rank belongs to --dry-run"),
        (["--at-step", 1, "--data", "d", "--out", "o"], "--at-step belongs to --dry-run"),
        (["--dry-run", "--nproc", 4], "--nproc starts ranks"),
        (["--dry-run", "--resume"], "--resume goes on with a run"),
        (["--dry-run", "--at-step", 0], "--at-step 0 is no step"),
        (["--dry-run", "--elastic.sampling", "top_p", "--elastic.top_p", 0.5], "elastic.sampling = top_p"),
        (["--dry-run", "--hardware.num_devices", 1, "--training.operations", "aten"], "training.operations = aten takes"),
        (["--dry-run", "--parallelism.context", 2], "parallelism.context = 2"),
        (["--out", "o"], "--data is missing"),
        (["--data", "d"], "--out is missing"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, words, named):
    assert named in error_line(run("train", "--job", job_of(tmp_path / "job.json"), *words))
