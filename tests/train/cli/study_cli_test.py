"""`mmoe study budget` from outside: a study of four-step runs, its summary, and what it refuses."""

import json
import math
import subprocess

import pytest

from train_program import ENVIRONMENT, NEEDS_PROGRAM, PROGRAM, error_line, write_job

pytestmark = NEEDS_PROGRAM


def study(*words):
    """`mmoe study budget`, one thread."""
    program = PROGRAM.parent / "mmoe"
    command = [program, "study", "budget", *words, "--threads", "1"]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False
    )


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    job = json.loads(write_job(folder / "job.json").read_text())
    del job["elastic"]["budget"]
    job["training"]["tokens"] = 4 * 8 * 64
    file = {
        "question": "does it save?",
        "job": job,
        "depths": [2],
        "seeds": [1, 2],
        "evaluations": 2,
        "eval_sequences": 4,
        "margin": 0.02,
        "timing": {"rounds": 1, "steps": 2, "warmup_steps": 1},
        "arms": [
            {"name": "free", "role": "baseline"},
            {"name": "bounded", "role": "budget", "budget": {"kind": "at_most", "mean_k": 2.5}},
        ],
    }
    (folder / "study.json").write_text(json.dumps(file))
    return folder / "study.json"


def test_a_study_runs_resumes_and_concludes(study_file, data, tmp_path):
    words = ["--study", study_file, "--data", data, "--out", tmp_path / "out"]
    first = study(*words, "--seeds", "2")
    assert first.returncode == 0, first.stderr
    assert not (tmp_path / "out" / "study.json").exists()
    done = tmp_path / "out" / "layers_2" / "bounded" / "seed_2" / "result.json"
    before = done.stat().st_mtime_ns
    whole = study(*words, "--json")
    assert whole.returncode == 0, whole.stderr
    assert done.stat().st_mtime_ns == before  # not trained again
    summary = json.loads(whole.stdout)
    assert summary == json.loads((tmp_path / "out" / "study.json").read_text())
    free, bounded = summary["depths"][0]["arms"]
    bound = bounded["elastic"]["budget"]["sum_k"][0]
    assert abs(bounded["mean_k"] - 2.5) <= 0.5 / 2  # the closest bound of two layers
    peaks = bounded["measured"]["peak_allocated_bytes"]
    assert peaks["max"] <= bounded["predicted"]["peak_allocated_bytes"]["max"] * 1.001  # padding of flat buffers
    assert peaks["saving"]["mean"]["count"] == 2
    assert set(bounded["measured"]["peak_reserved_bytes"]) == {"default", "expandable_segments"}
    # The differences are those of the runs' own results.
    losses = {}
    for arm in ("free", "bounded"):
        for seed in (1, 2):
            result = json.loads((tmp_path / "out" / "layers_2" / arm / f"seed_{seed}" / "result.json").read_text())
            losses[arm, seed] = max(result["evaluations"][-1]["loss_by_k"].values())
            assert [evaluation["step"] for evaluation in result["evaluations"]] == [2, 4]
    mean = sum(losses["bounded", seed] - losses["free", seed] for seed in (1, 2)) / 2
    assert math.isclose(bounded["quality"]["worst_k_difference"]["mean"], mean, abs_tol=1e-12)
    assert free["quality"]["worst_k_difference"]["mean"] == 0
    assert bounded["timing"]["speed_ratio"]["count"] == 1
    metrics = (done.parent / "metrics.jsonl").read_text().splitlines()
    assert all(sum(k) <= bound for line in metrics for k in json.loads(line)["k_per_layer"])


def test_mistakes_are_one_line(study_file, data, tmp_path):
    words = ["--study", study_file, "--data", data, "--out", tmp_path / "out"]
    assert "--seeds 3" in error_line(study(*words, "--seeds", "3"))
    changed = json.loads(study_file.read_text())
    changed["arms"][1]["budget"]["kind"] = "window"
    (tmp_path / "study.json").write_text(json.dumps(changed))
    assert "arms[1].budget.kind" in error_line(study("--study", tmp_path / "study.json", *words[2:]))


def test_runs_of_another_study_are_kept(study_file, data, tmp_path):
    folder = tmp_path / "out" / "layers_2" / "free" / "seed_1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"run": {"job": "another"}}')
    result = study("--study", study_file, "--data", data, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "is of another study; choose another --out" in result.stderr.splitlines()[-1]
    assert (folder / "result.json").read_text() == '{"run": {"job": "another"}}'
