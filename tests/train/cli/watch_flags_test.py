"""What `mmoe-train train` writes for those who watch: TensorBoard files, routing metrics, evaluations, traces. None of
it changes the training, and all of it resumes."""

import collections
import json
import math
import shutil
import struct
import subprocess

import pytest

from event_file import series
from train_program import (INTERVAL, NEEDS_PROGRAM, PROGRAM, STEPS, done, error_line, metrics, run, train_words,
                           write_job)

pytestmark = NEEDS_PROGRAM

WATCH = ("--tensorboard", "--moe-metrics", 3, "--eval-interval", 5, "--eval-k", "1,6", "--eval-tokens", 600)
EVALUATED = [5, 10, 12]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def evaluations(run_folder):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(run_folder / "evaluations.jsonl")]


def weights(run_folder):
    folder = run_folder / "checkpoints" / f"step_{STEPS}"
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def as_float(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, data):
    """(job, run folder) of a run that nobody watched."""
    folder = tmp_path_factory.mktemp("plain")
    job = write_job(folder / "job.json")
    done(*train_words(job, data, folder / "run"))
    return job, folder / "run"


@pytest.fixture(scope="module")
def watched(plain, data, tmp_path_factory):
    """The same run, watched, with a trace of steps 6 and 7."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    done(*train_words(plain[0], data, folder, *WATCH, "--trace", "6:7"))
    return folder


@pytest.fixture(scope="module")
def resumed(plain, watched, data, tmp_path_factory):
    """As after a kill: all lines were written up to the end, but the last checkpoint is that of step 8."""
    folder = tmp_path_factory.mktemp("resumed") / "run"
    shutil.copytree(watched, folder)
    shutil.rmtree(folder / "checkpoints" / "step_12")
    done(*train_words(plain[0], data, folder, *WATCH, "--resume"))
    return folder


def test_watching_changes_no_bit_of_the_training(plain, watched):
    assert not (plain[1] / "evaluations.jsonl").exists() and not (plain[1] / "tensorboard").exists()
    assert weights(watched) == weights(plain[1])
    ours = metrics(watched)
    assert [line["step"] for line in ours if "moe" in line] == [3, 6, 9, 12]
    assert [{k: v for k, v in line.items() if k != "moe"} for line in ours] == metrics(plain[1])


def test_peaks_exclude_evaluations(plain, watched):
    # Where routing is measured, three layers hold 8 counts and an entropy in fp64, and a micro-batch's entropy in fp32.
    routing = 3 * (9 * 8 + 4)
    for ours, theirs in zip(lines(watched / "metrics.jsonl"), lines(plain[1] / "metrics.jsonl")):
        more = routing if "moe" in ours else 0
        assert ours["peak_allocated_bytes"] == theirs["peak_allocated_bytes"] + more, ours["step"]


def test_moe_metrics(watched):
    for line in metrics(watched):
        for layer, moe in enumerate(line.get("moe", [])):
            tokens = moe["tokens_per_expert"]
            k = [micro_batch[layer] for micro_batch in line["k_per_layer"]]
            assert list(moe) == ["layer", "k", "tokens_per_expert", "router_entropy", "dead_experts"]
            assert moe["layer"] == layer and moe["k"] == sum(k) / 2
            mean = 256 * sum(k) / 8  # 256 tokens a micro-batch, 8 experts
            assert len(tokens["by_expert"]) == 8 and sum(tokens["by_expert"]) == 256 * sum(k)
            assert [min(tokens["by_expert"]), max(tokens["by_expert"])] == [tokens["min"], tokens["max"]]
            assert 0 <= tokens["min"] <= mean <= tokens["max"] <= 512
            # The largest deviation is at most that of one expert against all others.
            assert (tokens["max"] - mean) / mean / math.sqrt(8) <= tokens["cv"] <= math.sqrt(7)
            assert (moe["dead_experts"] > 0) == (tokens["min"] == 0)
            assert 0 < moe["router_entropy"] <= math.log(8)


def test_evaluations_are_those_of_mmoe_eval(watched, data):
    found = evaluations(watched)
    assert [line["step"] for line in found] == EVALUATED
    assert all(line["split"] == "valid" and line["tokens"] == 640 for line in found)  # ten windows of 64
    words = ("--data", data, "--k", "1,6", "--max-sequences", 10, "--threads", 2, "--json")
    last = json.loads(done("eval", "--checkpoint", watched / "checkpoints" / f"step_{STEPS}", *words).stdout)
    assert found[-1]["loss_by_k"] == last["loss_by_k"]
    assert found[-1]["bits_per_byte_by_k"] == last["bits_per_byte_by_k"]
    assert found[-1]["loss_by_k"]["6"] < found[0]["loss_by_k"]["6"]


def expect_tensorboard(run_folder):
    """The event files show what the JSON files hold."""
    shown = series(run_folder / "tensorboard")
    for line in lines(run_folder / "metrics.jsonl"):
        step = line["step"]
        for key in ("loss", "tokens_per_second", "peak_allocated_bytes", "learning_rate", "grad_norm",
                    "load_balance_loss", "z_loss"):  # fmt: skip
            assert shown[f"train/{key}"][step] == as_float(line[key]), (step, key)
        k = sum(line["k_per_layer"], [])
        assert shown["train/k_mean"][step] == as_float(sum(k) / len(k))
        for moe in line.get("moe", []):
            prefix = f"moe/layer_{moe['layer']}/"
            assert shown[prefix + "router_entropy"][step] == as_float(moe["router_entropy"])
            assert shown[prefix + "dead_experts"][step] == moe["dead_experts"]
            assert shown[prefix + "tokens_per_expert_cv"][step] == as_float(moe["tokens_per_expert"]["cv"])
    assert list(shown["train/loss"]) == list(range(1, STEPS + 1))
    assert list(shown["moe/layer_2/k"]) == [3, 6, 9, 12]
    assert list(shown["eval/loss_k1"]) == EVALUATED
    for line in lines(run_folder / "evaluations.jsonl"):
        for k in ("1", "6"):
            assert shown[f"eval/loss_k{k}"][line["step"]] == as_float(line["loss_by_k"][k])
            assert shown[f"eval/bits_per_byte_k{k}"][line["step"]] == as_float(line["bits_per_byte_by_k"][k])


def test_tensorboard_shows_the_metrics(watched):
    expect_tensorboard(watched)


@pytest.mark.parametrize("run_folder", ["watched", "resumed"])
def test_tensorboard_itself_reads_the_files(run_folder, request):
    folder = request.getfixturevalue(run_folder) / "tensorboard"
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    events = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0})
    events.Reload()
    shown = series(folder)
    assert sorted(events.Tags()["scalars"]) == sorted(shown)
    for tag, values in shown.items():
        assert {event.step: event.value for event in events.Scalars(tag)} == values


def test_a_run_killed_behind_its_checkpoint_resumes(watched, resumed):
    assert metrics(resumed) == metrics(watched)
    assert evaluations(resumed) == evaluations(watched)
    assert weights(resumed) == weights(watched)
    assert len(list((resumed / "tensorboard").iterdir())) == 2
    expect_tensorboard(resumed)


def test_a_resume_without_evaluation_drops_the_old_ones_too(plain, watched, data, tmp_path):
    shutil.copytree(watched, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_12")
    done(*train_words(plain[0], data, tmp_path / "run", "--resume"))
    assert [line["step"] for line in evaluations(tmp_path / "run")] == [5]


def test_the_trace_holds_two_steps(watched):
    trace = json.loads((watched / "trace_rank0.json").read_text())
    names = [event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"]
    assert [name for name in names if name.startswith("step ")] == ["step 6", "step 7"]
    drawn = [metrics(watched)[step - 1]["k_per_layer"] for step in (6, 7)]
    for layer in range(3):
        ours = sorted(name for name in names if name.startswith(f"layer {layer} forward"))
        theirs = sorted(f"layer {layer} forward k={k[layer]}" for step in drawn for k in step)
        assert ours == theirs
    assert any(event.get("cat") == "cpu_op" for event in trace["traceEvents"])


def test_the_predicted_trace_has_the_names_of_the_real_one(plain, watched, tmp_path):
    mmoe = PROGRAM.parent / "mmoe"
    words = ("simulate", "--job", plain[0], "--trace", tmp_path / "predicted.json", "--trace-step", "7")
    subprocess.run([mmoe, *map(str, words)], check=True, capture_output=True, timeout=60)

    def names(path, category):
        """Of step 7, with how often each occurs."""
        events = json.loads(path.read_text())["traceEvents"]
        (step,) = (e for e in events if e["name"] == "step 7")
        end = step["ts"] + step["dur"]
        found = (e for e in events if e.get("cat") == category and step["ts"] <= e["ts"] and e["ts"] + e["dur"] <= end)
        return collections.Counter(e["name"] for e in found)

    real = names(watched / "trace_rank0.json", "user_annotation")
    predicted = names(tmp_path / "predicted.json", "predicted")
    # Gradients are zeroed and weights refreshed by parts of the optimizer's work; the overhead is what no operation has.
    assert real.pop("optimizer update") >= predicted.pop("optimizer update") == 1
    assert predicted.pop("overhead") == 1
    assert real == predicted


def test_two_ranks_evaluate_what_one_does(data, tmp_path):
    """Two ranks that share the experts, and two that share the data and, a layer at a time, the weights: the windows are
    shared out in three batches of 64, so that one rank runs out before the other."""
    words = ("--eval-interval", 6, "--eval-k", "2", "--eval-tokens", 9000, "--moe-metrics", 4, "--tensorboard")
    found = {}
    for name, devices, parallelism in (("one", 1, {}), ("data", 2, {"zero_stage": 3}), ("expert", 2, {"expert": 2})):
        job = write_job(tmp_path / f"{name}.json", **{"training.micro_batch_size": 2})
        content = json.loads(job.read_text())
        content["hardware"]["num_devices"] = devices
        content["parallelism"] = parallelism
        content["elastic"]["budget"]["groups"] = [3]
        job.write_text(json.dumps(content))
        more = ("--nproc", 2, "--trace", "2") if devices > 1 else ()
        done(*train_words(job, data, tmp_path / name, *words, *more, threads=1))
        found[name] = evaluations(tmp_path / name), [line["moe"] for line in metrics(tmp_path / name) if "moe" in line]
    for name in ("data", "expert"):
        assert [line["step"] for line in found[name][0]] == [6, 12]
        for ours, theirs in zip(found[name][0], found["one"][0]):
            assert ours["tokens"] == theirs["tokens"] == 9024
            # As the losses of the training itself (parallel_cli_test.py).
            assert ours["loss_by_k"]["2"] == pytest.approx(theirs["loss_by_k"]["2"], rel=2e-3)
        for ours, theirs in zip(found[name][1][0], found["one"][1][0]):
            assert ours["k"] == theirs["k"]
            assert ours["router_entropy"] == pytest.approx(theirs["router_entropy"], rel=2e-3)
        assert all((tmp_path / name / f"trace_rank{rank}.json").exists() for rank in (0, 1))


@pytest.mark.parametrize(
    "more, words",
    [
        (["--eval-k", "9"], ["--eval-k 9", "num_experts = 8"]),
        (["--eval-split", "training"], ["--eval-split", "training"]),
        (["--eval-interval", "-1"], ["--eval-interval -1"]),
        (["--eval-tokens", "-1"], ["--eval-tokens -1"]),
        (["--moe-metrics", "-2"], ["--moe-metrics -2"]),
        (["--trace", "0:2"], ["--trace 0:2", "1 to 12"]),
        (["--trace", "3:2"], ["--trace 3:2"]),
        (["--trace", "3:13"], ["--trace 3:13"]),
        (["--trace", "x"], ["--trace x"]),
        (["--trace", "3:4:5"], ["--trace 3:4:5"]),
        (["--memory-snapshot", "1:2"], ["--memory-snapshot", "CUDA", "hardware.device = cpu"]),
        (["--nvtx"], ["--nvtx", "CUDA", "hardware.device = cpu"]),
    ],
)
def test_bad_flags_are_refused(data, tmp_path, more, words):
    job = write_job(tmp_path / "job.json")
    line = error_line(run(*train_words(job, data, tmp_path / "run", *more)))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_a_trace_of_steps_that_are_over_is_refused(plain, data):
    line = error_line(run(*train_words(plain[0], data, plain[1], "--resume", "--trace", "8")))
    assert "--trace 8:8" in line and f"step {STEPS}" in line


def test_a_pipeline_is_not_evaluated_while_it_trains(data, tmp_path):
    job = write_job(tmp_path / "job.json", **{"training.micro_batch_size": 2})
    content = json.loads(job.read_text())
    del content["elastic"]["budget"]
    content["hardware"]["num_devices"] = 3
    content["parallelism"] = {"pipeline": 3}
    job.write_text(json.dumps(content))
    line = error_line(run(*train_words(job, data, tmp_path / "run", "--nproc", 3, "--eval-interval", 2)))
    assert "parallelism.pipeline = 3" in line and "--eval-interval" in line


assert INTERVAL == 4 and STEPS == 12, "the tests count on them"
