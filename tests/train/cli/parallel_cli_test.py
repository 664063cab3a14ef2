"""`mmoe-train train` as several processes: layouts, launchers, checkpoints that change layout, ranks that end."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from train_program import ENVIRONMENT, INTERVAL, NEEDS_PROGRAM, PROGRAM, STEPS, command, done, error_line, metrics, run, write_job

pytestmark = NEEDS_PROGRAM

LAYOUT = {"expert": 2, "zero_stage": 1}


def parallel_job(path, devices=2, parallelism=LAYOUT, **changes):
    job = write_job(path, **{"training.micro_batch_size": 2, **changes})
    content = json.loads(job.read_text())
    content["hardware"]["num_devices"] = devices
    content["parallelism"] = parallelism
    content["elastic"]["budget"]["groups"] = [3]
    job.write_text(json.dumps(content))
    return job


def words_of(job, data, run_folder, *more, steps=STEPS):
    return ("train", "--job", job, "--data", data, "--out", run_folder, "--steps", steps, "--threads", 1, *more)


@pytest.fixture(scope="module")
def two(tmp_path_factory, data):
    """(job, run folder) of two ranks that nothing interrupted."""
    folder = tmp_path_factory.mktemp("two")
    job = parallel_job(folder / "job.json")
    done(*words_of(job, data, folder / "run", "--nproc", 2, "--rank-logs"))
    return job, folder / "run"


def checkpoint_bytes(run_folder, step=STEPS):
    folder = run_folder / "checkpoints" / f"step_{step}"
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def expect_same_run(run_folder, whole, steps=STEPS):
    assert metrics(run_folder) == metrics(whole)
    assert checkpoint_bytes(run_folder, steps) == checkpoint_bytes(whole, steps)
    assert not list(run_folder.rglob("*.tmp*"))


def test_two_ranks_train_what_one_process_trains(two, data, tmp_path):
    alone = parallel_job(tmp_path / "job.json", 1, {})
    done(*words_of(alone, data, tmp_path / "run"))
    ours, theirs = metrics(two[1]), metrics(tmp_path / "run")
    assert [line["k_per_layer"] for line in ours] == [line["k_per_layer"] for line in theirs]
    # fp32 sums in another order: 12 steps of at most 1e-2 a weight, as in parallel_training_test; observed near 1e-6.
    for a, b in zip(ours, theirs):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-3)
    assert sorted(checkpoint_bytes(two[1])) == [
        f"{kind}-0000{rank}.safetensors" for kind in ("optimizer", "weights") for rank in (0, 1)
    ]
    assert len(json.loads((two[1] / "metrics.jsonl").read_text().splitlines()[0])["peak_allocated_bytes_by_rank"]) == 2


def auto_job(path, share_of_peak, parallelism=LAYOUT):
    """A job whose budget is tuned for this share of the peak of its worst draw; and that limit in bytes."""
    job = parallel_job(path, parallelism=parallelism, **{"model.expert_hidden_size": 64})
    content = json.loads(job.read_text())
    del content["elastic"]["budget"]
    job.write_text(json.dumps(content))
    peak = json.loads(mmoe("simulate", "--job", job, "--json").stdout)["memory"]["peak_allocated_bytes"]
    limit = share_of_peak * peak
    content["elastic"]["budget"] = "auto"
    content["hardware"]["usable_memory_gib"] = limit / 2**30
    job.write_text(json.dumps(content))
    return job, limit


@pytest.mark.parametrize("parallelism", [LAYOUT, {"pipeline": 2}], ids=["expert_2", "pipeline_2"])
def test_an_automatic_budget_is_tuned_alike_on_every_rank_and_keeps_the_limit(data, tmp_path, parallelism):
    job, limit = auto_job(tmp_path / "job.json", 0.93, parallelism)
    out = done(*words_of(job, data, tmp_path / "run", "--nproc", 2))
    budget = json.loads((tmp_path / "run" / "job.json").read_text())["elastic"]["budget"]
    tuned = json.loads(mmoe("budget", "--job", job, "--json").stdout)
    assert tuned["budget_needed"] and tuned["limit_bytes"] <= limit
    assert budget["kind"] == tuned["budget"]["kind"] and budget["sum_k"] == tuned["budget"]["sum_k"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["peak_allocated_bytes"] for line in lines[1:]) <= limit
    assert "guard:" not in out.stderr


def test_the_guard_of_several_ranks_warns_and_tunes_anew_at_a_checkpoint(data, tmp_path):
    # Without a budget the worst draw does not fit, so that the guard speaks as soon as steps are compared.
    job, _ = auto_job(tmp_path / "job.json", 0.93)
    content = json.loads(job.read_text())
    content["elastic"]["budget"] = {"kind": "at_most", "sum_k": 18}
    content["training"]["checkpoint_interval"] = 4
    job.write_text(json.dumps(content))
    warned = done(*words_of(job, data, tmp_path / "warned", "--nproc", 2)).stderr
    assert warned.count("guard: step 2: ") == 1 and "above the usable" in warned
    tuned = done(*words_of(job, data, tmp_path / "tuned", "--nproc", 2, "--guard", "retune")).stderr
    assert tuned.count("guard: step 4: from the next step on the budget is at_most") == 1
    state = json.loads((tmp_path / "tuned" / "checkpoints" / "step_8" / "state.json").read_text())
    bound = state["job"]["elastic"]["budget"]["sum_k"][0]
    assert bound < 18
    lines = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert max(sum(k) for line in lines[4:] for k in line["k_per_layer"]) <= bound


def test_ranks_that_share_tokens_train_and_evaluate_what_one_process_does(data, tmp_path):
    words = ("--eval-interval", 6, "--eval-k", "1,6")
    runs = []
    for devices, parallelism in ((1, {}), (2, {"tensor": 2, "sequence": True, "expert": 2}),
                                 (2, {"context": 2, "context_kind": "alltoall", "zero_stage": 1})):
        folder = tmp_path / f"run_{len(runs)}"
        job = parallel_job(tmp_path / f"{len(runs)}.json", devices, parallelism)
        done(*words_of(job, data, folder, *words, *(("--nproc", devices) if devices > 1 else ())))
        evaluations = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
        runs.append((metrics(folder), evaluations))
    (theirs, expected), *others = runs
    for ours, found in others:
        assert [line["k_per_layer"] for line in ours] == [line["k_per_layer"] for line in theirs]
        for a, b in zip(ours, theirs, strict=True):  # as above
            assert a["loss"] == pytest.approx(b["loss"], rel=2e-3)
        assert [line["step"] for line in found] == [line["step"] for line in expected] == [6, 12]
        for a, b in zip(found, expected):
            assert a["tokens"] == b["tokens"]
            assert a["loss_by_k"] == pytest.approx(b["loss_by_k"], rel=2e-3)


def test_rank_logs_say_what_was_sent(two):
    for rank in (0, 1):
        lines = [json.loads(line) for line in (two[1] / "ranks" / f"rank_0000{rank}.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        # Two micro-batches, three layers: counts, tokens, weights and their way back, forward and backward.
        assert all(line["traffic"]["expert"]["all_to_all"]["bytes"] > 0 for line in lines)
        assert len({line["traffic"]["data"]["reduce_scatter"]["bytes"] for line in lines}) == 1


def mmoe(*words):
    return subprocess.run([str(PROGRAM.parent / "mmoe"), *map(str, words)], capture_output=True, text=True, timeout=60)


def test_every_ranks_peaks_follow_from_the_rows_that_came_to_it(two):
    answer = mmoe("validate", "--run", two[1], "--json")
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    steps = range(6, STEPS + 1)  # behind warm-up
    peaks = {row["id"]: row for row in report["rows"] if row["quantity"] == "peak_allocated_bytes"}
    assert set(peaks) == {f"step_{step}_rank_{rank}" for step in steps for rank in (0, 1)}
    assert [row["id"] for row in report["rows"] if row["quantity"] == "step_seconds"] == [f"step_{s}" for s in steps]
    # What stays is padding and small tensors, which are not counted.
    assert all(abs(row["error_fraction"]) < 0.02 for row in peaks.values()), peaks
    # Routing is uneven enough for that to mean something: rows of the two ranks differ, and so do their peaks.
    lines = [json.loads(line) for line in (two[1] / "ranks" / "rank_00000.jsonl").read_text().splitlines()]
    rows = [[received for received, _ in layers] for layers in lines[-1]["routed_pairs"]]
    assert len(rows) == 2 and all(len(layers) == 3 for layers in rows)  # micro-batches, MoE layers
    assert any(peaks[f"step_{s}_rank_0"]["predicted"] != peaks[f"step_{s}_rank_1"]["predicted"] for s in steps)


def test_peaks_of_split_experts_need_the_rank_logs(two, tmp_path):
    for name in ("job.json", "metrics.jsonl"):
        shutil.copy(two[1] / name, tmp_path / name)
    answer = mmoe("validate", "--run", tmp_path)
    assert answer.returncode == 2 and "rank_00000.jsonl" in answer.stderr and "--rank-logs" in answer.stderr


def test_the_links_are_measured_fitted_and_used(two, tmp_path):
    job, folder = two
    path = folder / "profile_collectives.json"
    profile = json.loads(path.read_text())
    assert profile["jobs"] == [json.loads((folder / "job.json").read_text())] and profile["operations"] == []
    records = profile["collectives"]
    assert all(record["within_node"] and record["group_size"] == 2 for record in records)
    assert all(0 < record["seconds"]["p10"] <= record["seconds"]["median"] for record in records)
    # Every call of the run is in a record, and no other: rank logs count them too.
    measured, logged = {}, {}
    for record in records:
        key = record["group"], record["collective"]
        measured[key] = measured.get(key, 0) + record["calls"]
    for log in (folder / "ranks").iterdir():
        for line in log.read_text().splitlines():
            for group, collectives in json.loads(line)["traffic"].items():
                for name, traffic in collectives.items():
                    logged[group, name] = logged.get((group, name), 0) + traffic["calls"]
    assert measured == logged
    assert len({record["bytes_per_call"] for record in records if record["group"] == "expert"}) > 1

    calibrated = mmoe("calibrate", "--profile", path, "--out", tmp_path / "calibration.json", "--json")
    assert calibrated.returncode == 0, calibrated.stderr
    result = json.loads(calibrated.stdout)
    assert result["records"]["fitted"] + result["records"]["held_out"] == len(records)
    assert result["fitted"]["collective_seconds"]["count"] == result["records"]["fitted"]
    links = {name: p for name, p in result["calibration"]["parameters"].items() if name.startswith("link_")}
    # On a busy machine the times may scatter too much to tell both apart; then there is a line, and one of them.
    # Kinds of collectives with enough records have numbers of their own.
    of_level = [name for name in links if name.count(".") == 1]
    assert len(of_level) + len(result["not_fitted"]) == 2 and all(name.split(".")[1] == "node" for name in links)
    assert len(calibrated.stderr.splitlines()) == len(result["not_fitted"])
    for link in links.values():
        assert link["low"] < link["value"] < link["high"] and 0 < link["standard_error"] < link["value"]

    plain = json.loads(mmoe("simulate", "--job", job, "--json").stdout)
    answer = mmoe("simulate", "--job", job, "--calibration", tmp_path / "calibration.json", "--json")
    assert answer.returncode == 0, answer.stderr
    plan = json.loads(answer.stdout)
    assert plan["evidence"]["calibration"].endswith(f"; links by {tmp_path}/calibration.json")
    assert plan["throughput"]["step_seconds"] != plain["throughput"]["step_seconds"]
    assert plan["memory"] == plain["memory"]


def test_the_collectives_of_context_groups_are_measured_and_fitted(data, tmp_path):
    layout = {"context": 2, "context_kind": "alltoall", "tensor": 2, "sequence": True}
    job = parallel_job(tmp_path / "job.json", 4, layout, **{"model.num_kv_heads": 4})
    done(*words_of(job, data, tmp_path / "run", "--nproc", 4, steps=2))
    path = tmp_path / "run" / "profile_collectives.json"
    kinds = {}
    for record in json.loads(path.read_text())["collectives"]:
        kinds.setdefault((record["group"], record["group_size"]), set()).add(record["collective"])
    # Heads for tokens and back; what a router's experts get of all tokens; weights over all who hold the same.
    assert kinds["context", 2] == {"all_to_all"}
    assert kinds["tensor_context", 4] == {"all_reduce"}
    assert kinds["tensor", 2] == {"all_gather", "reduce_scatter"}
    assert kinds["data", 2] == kinds["stage", 4] == {"all_reduce"}
    calibrated = mmoe("calibrate", "--profile", path, "--out", tmp_path / "calibration.json", "--json")
    assert calibrated.returncode == 0, calibrated.stderr
    records = json.loads(calibrated.stdout)["records"]
    assert records["fitted"] + records["held_out"] == len(json.loads(path.read_text())["collectives"])
    plan = mmoe("simulate", "--job", job, "--calibration", tmp_path / "calibration.json", "--json")
    assert plan.returncode == 0, plan.stderr
    assert "links by" in json.loads(plan.stdout)["evidence"]["calibration"]


def test_collectives_of_other_nodes_than_the_jobs_are_refused(two, tmp_path):
    profile = json.loads((two[1] / "profile_collectives.json").read_text())
    profile["collectives"][0]["within_node"] = False
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    result = mmoe("calibrate", "--profile", tmp_path / "profile.json", "--out", tmp_path / "calibration.json")
    assert "collectives[0].within_node = false but by its job" in error_line(result)
    assert not (tmp_path / "calibration.json").exists()


def simulated(job, step):
    words = [PROGRAM.parent / "mmoe", "simulate", "--job", job, "--trace-step", step, "--json"]
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("parallelism, error", [
    # Where tokens choose the rank of their experts, ranks get more rows or fewer than an equal share.
    ({"pipeline": 2}, 0.002), ({"zero_stage": 1}, 0.002), ({"zero_stage": 3}, 0.002), (LAYOUT, 0.1)])
def test_every_rank_is_what_the_simulator_says(data, tmp_path, parallelism, error):
    job = parallel_job(tmp_path / "job.json", 2, parallelism, **{
        "model.hidden_size": 128, "model.expert_hidden_size": 64, "training.seq_len": 128})
    content = json.loads(job.read_text())
    del content["elastic"]["budget"]
    # With overlap it is chance whether Gloo still holds its copy of the layer that is being gathered.
    content["training"]["overlap"] = parallelism.get("zero_stage") != 3
    job.write_text(json.dumps(content))
    done(*words_of(job, data, tmp_path / "run", "--nproc", 2, "--rank-logs", steps=4))
    logs = [[json.loads(line) for line in (tmp_path / "run" / "ranks" / f"rank_0000{rank}.jsonl").read_text().splitlines()]
            for rank in (0, 1)]
    for step in range(2, 5):  # the first one makes what stays
        plan = simulated(job, step)
        lines = [log[step - 1] for log in logs]
        sums = {}
        for line in lines:
            for group, collectives in line["traffic"].items():
                for name, one in collectives.items():
                    total = sums.setdefault(group, {}).setdefault(name, {"calls": 0, "bytes": 0})
                    for key in total:
                        total[key] += one[key]
        assert plan["trainer_step"]["traffic"] == sums
        for line, rank in zip(lines, plan["trainer_step"]["ranks"]):
            assert rank["peak_allocated_bytes"] == pytest.approx(line["peak_allocated_bytes"], rel=error)
            # No draw passes the worst one.
            stage = plan["memory"]["stages"][rank["stage"]]
            assert rank["peak_allocated_bytes"] <= stage["peak_allocated_bytes"] <= plan["memory"]["peak_allocated_bytes"]


def test_a_checkpoint_of_two_ranks_is_read_by_one(two, data, tmp_path):
    folder = two[1] / "checkpoints" / f"step_{STEPS}"
    loss = json.loads(done("eval", "--checkpoint", folder, "--data", data, "--k", 2, "--json").stdout)["loss_by_k"]["2"]
    assert 0 < loss < 6
    # The same run goes on in one process, and what that writes is read by two ranks of another layout.
    shutil.copytree(two[1], tmp_path / "run")
    alone = parallel_job(tmp_path / "one.json", 1, {})
    done(*words_of(alone, data, tmp_path / "run", "--resume", steps=STEPS + 1))
    assert metrics(tmp_path / "run")[:STEPS] == metrics(two[1])
    pipeline = parallel_job(tmp_path / "pipeline.json", 2, {"pipeline": 2})
    done(*words_of(pipeline, data, tmp_path / "run", "--resume", "--nproc", 2, steps=STEPS + 2))
    assert len(metrics(tmp_path / "run")) == STEPS + 2
    done("export", "--checkpoint", folder, "--out", tmp_path / "two")


def test_resumes_bit_for_bit(two, data, tmp_path):
    shutil.copytree(two[1], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step_{STEPS}")
    done(*words_of(two[0], data, tmp_path / "run", "--nproc", 2, "--resume", "--rank-logs"))
    expect_same_run(tmp_path / "run", two[1])
    for rank in (0, 1):  # the lines of steps that ran again are there once
        path = pathlib.Path("ranks") / f"rank_0000{rank}.jsonl"
        steps = [[json.loads(line)["step"] for line in (folder / path).read_text().splitlines()]
                 for folder in (tmp_path / "run", two[1])]
        assert steps[0] == steps[1] == list(range(1, STEPS + 1))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_ranks_of_another_launcher(two, data, tmp_path):
    """As srun starts them: rank 0 serves the store."""
    port, processes = free_port(), []
    for rank in range(2):
        variables = {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank),
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes.append(subprocess.Popen(command(*words_of(two[0], data, tmp_path / "run")), env=ENVIRONMENT | variables,
                                          stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, messages = process.communicate(timeout=120)
        assert process.returncode == 0, messages
    expect_same_run(tmp_path / "run", two[1])


@pytest.fixture
def two_hosts():
    """Names of two network namespaces that a cable joins, 10.77.0.1 and 10.77.0.2."""
    names = [f"mmoe-{os.getpid()}-{side}" for side in "ab"]
    links = [f"mm{os.getpid()}{side}" for side in "ab"]
    made = [["ip", "netns", "add", name] for name in names]
    made.append(["ip", "link", "add", links[0], "netns", names[0], "type", "veth", "peer", "name", links[1],
                 "netns", names[1]])
    for number, (name, link) in enumerate(zip(names, links), 1):
        made += [["ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", link],
                 ["ip", "-n", name, "link", "set", link, "up"], ["ip", "-n", name, "link", "set", "lo", "up"]]
    try:
        if not shutil.which("ip") or any(subprocess.run(words, capture_output=True).returncode for words in made):
            pytest.skip("network namespaces need root and iproute2")
        yield names
    finally:
        for name in names:
            if shutil.which("ip"):
                subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_two_hosts(two, data, tmp_path, two_hosts):
    processes = []
    for rank, host in enumerate(two_hosts):
        variables = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "10.77.0.1",
                     "MASTER_PORT": "29777"}
        words = ["ip", "netns", "exec", host, *command(*words_of(two[0], data, tmp_path / "run"))]
        processes.append(subprocess.Popen(words, env=ENVIRONMENT | variables, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, messages = process.communicate(timeout=120)
        assert process.returncode == 0, messages
    expect_same_run(tmp_path / "run", two[1])


def test_torchrun(two, data, tmp_path):
    torchrun = pathlib.Path(sys.executable).parent / "torchrun"
    if not torchrun.exists():
        pytest.skip("no torchrun beside this Python")
    result = subprocess.run([torchrun, "--no-python", "--nproc-per-node", "2", "--master-port", str(free_port()),
                             *command(*words_of(two[0], data, tmp_path / "run"))],
                            env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    expect_same_run(tmp_path / "run", two[1])


@pytest.mark.parametrize("parallelism, words", [
    ({"tensor": 2}, ["parallelism.sequence = false", "set it to true"]),
    ({"context": 2}, ["parallelism.context = 2", "set it to alltoall"]),
    ({"pipeline": 2, "schedule": "zero_bubble"}, ["parallelism.schedule"])])
def test_layouts_that_cannot_be_trained_are_refused(data, tmp_path, parallelism, words):
    job = parallel_job(tmp_path / "job.json", 2, parallelism)
    line = error_line(run(*words_of(job, data, tmp_path / "run", "--nproc", 2)))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_a_world_that_does_not_match_is_refused(two, data, tmp_path):
    words = words_of(two[0], data, tmp_path / "run")
    assert "--nproc 2" in error_line(run(*words))
    assert "--nproc 3" in error_line(run(*words, "--nproc", 3))
    world = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    result = subprocess.run(command(*words), env=ENVIRONMENT | world, capture_output=True, text=True, timeout=60)
    line = error_line(result)
    assert "rank 1: 3 ranks" in line and "hardware.num_devices = 2" in line
    assert not (tmp_path / "run").exists()


def start(words, **variables):
    return subprocess.Popen(command(*words), env=ENVIRONMENT | variables, stderr=subprocess.PIPE, text=True)


def num_lines(run_folder):
    path = run_folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(process, run_folder, lines):
    while process.poll() is None and num_lines(run_folder) < lines:
        time.sleep(0.002)


def ranks_of(launcher):
    """Processes of its ranks, by rank."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if "=" in entry)
            if variables.get("MMOE_LAUNCHER_PID") == str(launcher.pid):
                found[int(variables["RANK"])] = int(folder.name)
        except (OSError, UnicodeDecodeError):
            pass
    return found


@pytest.mark.parametrize("number, timeout", [(signal.SIGKILL, 20), (signal.SIGSTOP, 3)])
def test_a_rank_that_ends_or_hangs_ends_all(two, data, tmp_path, number, timeout):
    long = 100000
    process = start(words_of(two[0], data, tmp_path / "run", "--nproc", 2, "--timeout", timeout, steps=long))
    wait_for_lines(process, tmp_path / "run", INTERVAL + 1)
    os.kill(ranks_of(process)[1], number)
    begin = time.monotonic()
    _, messages = process.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert process.returncode == 1, messages
    assert "rank 0: " in messages and "rank 1" in messages and "--resume" in messages, messages
    assert ranks_of(process) == {}
    states = list((tmp_path / "run").glob("checkpoints/step_*/state.json"))
    assert states and all(json.loads(state.read_text())["files"] for state in states)


def test_a_signal_writes_a_checkpoint_of_all_ranks(two, data, tmp_path):
    process = start(words_of(two[0], data, tmp_path / "run", "--nproc", 2))
    wait_for_lines(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 0, messages
    done(*words_of(two[0], data, tmp_path / "run", "--nproc", 2, "--resume"))
    expect_same_run(tmp_path / "run", two[1])


def test_ranks_end_with_their_launcher(two, data, tmp_path):
    process = start(words_of(two[0], data, tmp_path / "run", "--nproc", 2, steps=100000))
    wait_for_lines(process, tmp_path / "run", 2)
    process.kill()
    process.wait()
    end = time.monotonic() + 30
    while ranks_of(process) and time.monotonic() < end:
        time.sleep(0.1)
    assert ranks_of(process) == {}


def test_fifty_kills_lose_nothing(data, tmp_path):
    """A process of the run (the launcher or a rank), drawn at random, is killed at a random moment, fifty times."""
    steps, kills = 400, 50
    job = parallel_job(tmp_path / "job.json", **{"training.checkpoint_interval": 2, "training.seq_len": 32})
    done(*words_of(job, data, tmp_path / "whole", "--nproc", 2, steps=steps))
    draw = random.Random(3)
    for _ in range(kills):
        process = start(words_of(job, data, tmp_path / "run", "--nproc", 2, "--resume", steps=steps))
        if draw.random() < 0.3:  # while it starts
            time.sleep(draw.uniform(0, 0.6))
        else:  # within the next 6 steps, of which each second writes a checkpoint
            wait_for_lines(process, tmp_path / "run", num_lines(tmp_path / "run") + draw.randint(1, 6))
            time.sleep(draw.uniform(0, 0.03))
        assert process.poll() is None
        victims = [process.pid, *ranks_of(process).values()]
        try:
            os.kill(draw.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate(timeout=60)
        while ranks_of(process):  # those of a killed launcher write their checkpoint
            time.sleep(0.05)
    done(*words_of(job, data, tmp_path / "run", "--nproc", 2, "--resume", steps=steps))
    expect_same_run(tmp_path / "run", tmp_path / "whole", steps)
