"""Cluster jobs and tables of measured runs from outside: `mmoe simulate`, `plan`, `validate`, `calibrate --table`."""

import csv
import gzip
import json
import shlex
import subprocess
import sys

import pytest
from cli_test import ROOT, error_line, run

PUBLISHED = sorted((ROOT / "profiles" / "measured" / "published").glob("*.csv.gz"))


@pytest.fixture
def table(tmp_path):
    """Unpacks a published table; returns its path and its rows."""

    def unpack(name):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(gzip.decompress((ROOT / "profiles" / "measured" / "published" / f"{name}.csv.gz").read_bytes()))
        with open(path, newline="") as file:
            return path, list(csv.DictReader(file))

    return unpack


def test_simulate_a_cluster_job_has_the_keys_of_the_contract():
    result = run("simulate", "--job", "llama3-70b-h100-64", "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["fits"] is True
    assert len(plan["memory"]["stages"]) == 4
    assert plan["memory"]["peak_reserved_bytes"] >= plan["memory"]["peak_allocated_bytes"]
    assert set(plan["fit"]["limiting"]) == {"rank", "stage", "cause", "moment"}
    assert plan["evidence"]["nearest"]
    low, high = plan["intervals"]["step_seconds"]
    assert low < plan["throughput"]["step_seconds"] < high


def test_layouts_that_fail_the_full_simulation_alone_are_named(tmp_path):
    """The search does not see the holes that a replay of the default allocator finds: some fit by its closed forms."""
    job = {
        "model": "llama3-8b",
        "hardware": {"cluster": "dgx-h100", "num_devices": 8, "usable_memory_gib": 24},
        "parallelism": {"context": 1, "zero_stage": 1, "stage_layers": [], "zero_group": 0},
        "training": {
            "framework": "megatron_core",
            "seq_len": 8192,
            "global_batch_size": 64,
            "micro_batch_size": 1,
            "precision": "bf16",
            "offload": "none",
        },
    }
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    reason = "fits by the search's closed forms, not by the full simulation"
    failed = json.loads(run("plan", "--job", path, "--json").stdout)["rejected"][reason]
    assert failed["count"] > 0 and 0 < failed["probability"] < 0.99
    shown = run("plan", "--job", path).stdout
    assert f"{failed['count']} of the fastest rejected: {reason}; fits with {100 * failed['probability']:.3g} %" in shown
    # The closest as a job: the full simulation says the same of it.
    closest = failed["closest"]
    job["parallelism"] = closest["parallelism"]
    job["training"].update({key: closest[key] for key in ("micro_batch_size", "recompute", "recompute_num_layers")})
    path.write_text(json.dumps(job))
    again = json.loads(run("simulate", "--job", path, "--json").stdout)
    assert again["fit"]["probability"] == pytest.approx(failed["probability"], rel=1e-9)


@pytest.mark.parametrize(
    "words",
    [
        ("llama3-70b-h100-64", "--hardware.usable_memory_gib", "60"),
        ("llama3-70b-h100-64", "--hardware.usable_memory_gib", "60", "--calibration", "nemo"),
        ("m-moe-100b-h100-1024", "--hardware.usable_memory_gib", "50"),
        ("demo", "--hardware.usable_memory_gib", "0.066"),
    ],
    ids=["dense cluster", "another framework", "elastic cluster", "one device"],
)
def test_every_remedy_makes_the_job_fit_as_it_says(words):
    result = run("simulate", "--job", *words, "--json")
    assert result.returncode == 3, result.stderr
    plan = json.loads(result.stdout)
    assert plan["fits"] is False
    remedies = plan["fit"]["remedies"]
    assert remedies
    assert [remedy["tokens_per_second_lost"] for remedy in remedies] == sorted(
        remedy["tokens_per_second_lost"] for remedy in remedies
    )
    before = plan["throughput"]["tokens_per_second_per_device"]
    for remedy in remedies:
        name, *command = shlex.split(remedy["command"])
        assert name == "mmoe"
        again = run(*command, "--json")
        assert again.returncode == 0, (remedy, again.stderr)
        fixed = json.loads(again.stdout)
        assert fixed["fits"] is True, remedy
        assert fixed["fit"]["probability"] == pytest.approx(remedy["probability"], rel=1e-9), remedy
        lost = before - fixed["throughput"]["tokens_per_second_per_device"]
        assert lost == pytest.approx(remedy["tokens_per_second_lost"], rel=1e-9, abs=1e-9 * before), remedy
    if words[0].startswith("m-moe"):
        assert any("--training.expert_saving" in remedy["command"] for remedy in remedies)


PINNED = {"tensor": 1, "pipeline": 1, "context": 1, "expert": 1, "expert_tensor": 1, "zero_stage": 0}
DRAWN = dict(hidden_size=2048, num_layers=16, num_heads=16, vocab_size=50304, num_experts=64, expert_hidden_size=1024)


def plan_job(devices, parallelism, training, **hardware):
    return {
        "model": DRAWN,
        "hardware": {"device": "h100-sxm-80gb", "num_devices": devices, **hardware},
        "parallelism": parallelism,
        "training": {"seq_len": 4096, "global_batch_size": 64, **training},
        "elastic": {"k_min": 1, "k_max": 6},
    }


@pytest.mark.parametrize(
    "job, words, changes",
    [
        # Weights and states of 6.9 B weights on every device: what splits them has to be left open.
        (plan_job(8, PINNED, {}), (), {"parallelism.zero_stage left open", "parallelism.expert left open"}),
        (plan_job(8, PINNED, {}), ("--confidence", "0.9", "--top", "2", "--calibration", "megatron_core"), set()),
        # All is open and yet too little: more devices, or a budget.
        (plan_job(4, {}, {}, usable_memory_gib=24), (), {"8 devices"}),
        # One device, a fixed micro-batch.
        (
            plan_job(1, {}, {"micro_batch_size": 8, "recompute": "none", "global_batch_size": 8}, device="cpu"),
            ("--model.num_layers", "2", "--hardware.usable_memory_gib", "20"),
            {"training.micro_batch_size left open"},
        ),
    ],
    ids=["pinned", "flags", "open", "one device"],
)
def test_every_remedy_of_a_plan_finds_what_it_says(job, words, changes, tmp_path):
    path = tmp_path / "a job.json"
    path.write_text(json.dumps(job))
    result = run("plan", "--job", path, *words, "--json")
    assert result.returncode == 3, result.stderr
    answer = json.loads(result.stdout)
    assert answer["candidates"] == []
    remedies = answer["remedies"]
    assert remedies and changes <= {remedy["change"] for remedy in remedies}, remedies
    lost = [remedy["tokens_per_second_lost"] for remedy in remedies]
    assert lost == sorted(lost)
    before = None
    for remedy in remedies:
        name, *command = shlex.split(remedy["command"])
        assert name == "mmoe"
        again = run(*command, "--json")
        assert again.returncode == 0, (remedy, again.stderr)
        first = json.loads(again.stdout)["candidates"][0]
        assert first["fit"]["probability"] == pytest.approx(remedy["probability"], rel=1e-9), remedy
        if "budget" in remedy["change"]:  # its speed is that at the job's own law
            continue
        speed = first["throughput"]["tokens_per_second_per_device"]
        before = before or speed + remedy["tokens_per_second_lost"]
        assert before == pytest.approx(speed + remedy["tokens_per_second_lost"], rel=1e-9), remedy
    shown = run("plan", "--job", path, *words)
    assert shown.returncode == 3 and all(remedy["command"] in shown.stdout for remedy in remedies)


def test_trace_is_a_chrome_trace(tmp_path):
    path = tmp_path / "trace.json"
    assert run("simulate", "--job", "llama3-70b-h100-64", "--trace", path).returncode == 0
    events = json.loads(path.read_text())["traceEvents"]
    counters = [event for event in events if event["ph"] == "C"]
    assert len(counters) < len(events) and {event["pid"] for event in counters} == {0, 1, 2, 3}


# Nanotron's gathered inputs weigh chunks of an interleaved schedule by how many of their micro-batches are in flight.
@pytest.mark.parametrize("flags", [(), ("--calibration", "nanotron")], ids=["own framework", "another"])
def test_memory_timeline_peaks_where_the_simulation_says_and_is_drawn(flags, tmp_path):
    path, image = tmp_path / "timeline.json", tmp_path / "timeline.png"
    result = run("simulate", "--job", "llama3-70b-h100-64", "--timeline", path, "--json", *flags)
    assert result.returncode == (3 if flags else 0), result.stderr  # it needs more memory
    ranks = json.loads(path.read_text())["draws"]["k_max"]
    peak = max(rank["peak"]["bytes"] for rank in ranks)
    assert peak == pytest.approx(json.loads(result.stdout)["memory"]["peak_allocated_bytes"], rel=1e-9)
    script = ROOT / "analysis" / "memory_timeline_figure.py"
    drawn = subprocess.run([sys.executable, script, path, "--out", image], capture_output=True, text=True, timeout=120)
    assert drawn.returncode == 0, drawn.stderr
    assert image.read_bytes().startswith(b"\x89PNG")
    assert "several devices" in error_line(run("simulate", "--job", "demo", "--timeline", path))


def test_budgets_stand_behind_layouts_that_need_none_and_on_the_front(tmp_path):
    model = dict(hidden_size=2048, num_layers=16, num_heads=16, vocab_size=50304, num_experts=64, expert_hidden_size=1024)
    job = {
        "model": model,
        "hardware": {"cluster": "dgx-h100", "num_devices": 8, "usable_memory_gib": 40},
        "parallelism": {"tensor": 1, "context": 1, "zero_stage": 1},
        "training": {"framework": "megatron_core", "seq_len": 4096, "global_batch_size": 64, "recompute": "none"},
        "elastic": {"k_min": 1, "k_max": 8},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = ("plan", "--job", tmp_path / "job.json", "--top", 4, "--json")
    without = json.loads(run(*words).stdout)["candidates"]
    assert all(c["expected_sum_fraction"] == 1 and c["kl_per_layer"] == 0 for c in without)
    result = run(*words, "--search-budget", "--min-sum-fraction", "0.9", "--max-kl", "0.04")
    assert result.returncode == 0, result.stderr
    candidates = json.loads(result.stdout)["candidates"]
    assert [c["parallelism"] for c in candidates[: len(without)]] == [c["parallelism"] for c in without]
    budgeted = candidates[len(without) :]
    assert budgeted and any(c["on_front"] for c in candidates)
    for candidate in budgeted:
        assert candidate["elastic"]["budget"]["kind"] == "at_most"
        assert 0.9 <= candidate["expected_sum_fraction"] < 1 and 0 < candidate["kl_per_layer"] <= 0.04
        assert candidate["own_law_step_seconds"] > candidate["throughput"]["step_seconds"]
    assert "--max-kl" in error_line(run(*words, "--search-budget", "--max-kl", "0"))


def test_plan_keeps_what_is_given_and_writes_a_job(tmp_path):
    job, out = tmp_path / "job.json", tmp_path / "best.json"
    job.write_text(
        json.dumps(
            {
                "model": "mixtral-8x7b",
                "hardware": {"cluster": "dgx-h100", "num_devices": 64},
                "parallelism": {"expert": 8},
                "training": {"framework": "nemo", "seq_len": 4096, "global_batch_size": 256},
            }
        )
    )
    result = run("plan", "--job", job, "--top", "3", "--json", "--out", out)
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["evaluated"] > 1000
    assert all(candidate["parallelism"]["expert"] == 8 for candidate in plan["candidates"])
    steps = [candidate["throughput"]["step_seconds"] for candidate in plan["candidates"]]
    assert steps == sorted(steps)
    assert run("simulate", "--job", out).returncode == 0


# By key: the value that leaves nothing to a search, and the column of what is chosen.
OPEN = {
    ("parallelism", "stage_layers"): ([], "layers"),
    ("parallelism", "zero_group"): (0, "group"),
    ("training", "recompute_num_layers"): (0, None),  # stands with what is recomputed: "full of 3"
    ("training", "overlap"): (True, "overlap"),
    ("training", "offload"): ("none", "offload"),
}


def open_job(tmp_path, left_out=(), auto=()):
    job = {
        "model": "mixtral-8x7b",
        "hardware": {"cluster": "dgx-h100", "num_devices": 32},
        "parallelism": dict(tensor=2, context=1, pipeline=4, virtual_pipeline=1, expert=4, expert_tensor=1),
        "training": {
            "framework": "megatron_core",
            "seq_len": 4096,
            "global_batch_size": 128,
            "micro_batch_size": 1,
            "recompute": "full",
        },
    }
    for (section, key), (value, _) in OPEN.items():
        if (section, key) not in left_out:
            job[section][key] = "auto" if (section, key) in auto else value
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    return path


def test_plan_chooses_what_is_left_out_or_auto_and_shows_it(tmp_path):
    job, out, script = open_job(tmp_path, OPEN), tmp_path / "best.json", tmp_path / "best.sh"
    result = run("plan", "--job", job, "--top", 5, "--json", "--out", out, "--megatron-script", script)
    assert result.returncode == 0, result.stderr
    best = json.loads(result.stdout)["candidates"][0]
    stages = best["parallelism"]["stage_layers"] or [8] * 4  # the framework's own cut
    assert sum(stages) == 32 and len(stages) == 4
    assert best["training"]["recompute_num_layers"] > 0  # not all have to be
    # The job file that is written is that layout.
    written = json.loads(out.read_text())
    for section, key in OPEN:
        assert written[section][key] == best[section][key]
    again = json.loads(run("simulate", "--job", out, "--json").stdout)
    assert again["throughput"]["step_seconds"] == pytest.approx(best["throughput"]["step_seconds"], rel=1e-12)
    assert "--recompute-num-layers" in script.read_text()
    auto = run("plan", "--job", open_job(tmp_path, auto=OPEN), "--top", 5, "--json")
    assert json.loads(auto.stdout)["candidates"][0]["parallelism"] == best["parallelism"]

    # Searching more is never slower than what the defaults give.
    steps = {}
    for key in [None, *OPEN]:
        plan = json.loads(run("plan", "--job", open_job(tmp_path, [key]), "--top", 1, "--json").stdout)
        steps[key] = plan["candidates"][0]["throughput"]["step_seconds"]
    assert best["throughput"]["step_seconds"] <= min(steps.values()) * 1.01  # the search's own error
    assert all(steps[key] <= steps[None] * 1.01 for key in OPEN), steps
    assert steps["training", "recompute_num_layers"] < 0.95 * steps[None]


@pytest.mark.parametrize(
    "left_out",
    [[], *([key] for key in OPEN), list(OPEN)],
    ids=lambda keys: "+".join(key for _, key in keys) or "nothing",
)
def test_plan_has_columns_of_what_is_chosen_alone(left_out, tmp_path):
    words = ("--job", open_job(tmp_path, left_out), "--top", 4)
    result = run("plan", *words)
    assert result.returncode == 0, result.stderr
    candidates = json.loads(run("plan", *words, "--json").stdout)["candidates"]
    header = result.stdout.splitlines()[0].split()
    for (section, key), (value, column) in OPEN.items():
        is_chosen = any(candidate[section][key] != value for candidate in candidates)
        assert not is_chosen or (section, key) in left_out
        if column:
            assert (column in header) == is_chosen
        else:
            assert ("full of " in result.stdout) == is_chosen


def test_offloaded_bytes_stand_beside_what_the_host_holds(tmp_path):
    """70.6 B weights over tensor 4 and pipeline 4, their states over the data-parallel ranks: 16 bytes each."""
    offload = ("simulate", "--job", "llama3-70b-h100-64", "--training.offload", "optimizer")
    fits = run(*offload)
    assert fits.returncode == 0, fits.stderr
    assert " GiB a device, of 256" in fits.stdout and "no measured run offloaded" in fits.stdout
    cluster = json.loads((ROOT / "profiles/presets/clusters/dgx-h100.json").read_text())
    cluster["host_memory_gib_per_device"] = 1
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    full = run(*offload, "--hardware.cluster", tmp_path / "cluster.json")
    assert full.returncode == 3
    assert "does not fit" in full.stdout and "that each has of the host's memory" in full.stdout
    del cluster["host_memory_gib_per_device"]
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    assert "of unknown memory" in run(*offload, "--hardware.cluster", tmp_path / "cluster.json").stdout


def test_plan_shows_as_many_as_asked_where_holes_keep_the_fastest_from_fitting(tmp_path):
    """Of the default allocator: the replay of most of the fastest passes the memory that they were searched with."""
    job = {
        "model": "deepseek-v3",
        "hardware": {"cluster": "dgx-h100", "num_devices": 2048},
        "training": {"framework": "megatron_core", "seq_len": 4096, "global_batch_size": 16384},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    plan = json.loads(run("plan", "--job", tmp_path / "job.json", "--top", 4, "--json").stdout)
    assert len(plan["candidates"]) == 4
    assert all(candidate["fit"]["probability"] >= 0.99 for candidate in plan["candidates"])


@pytest.mark.parametrize("name", ["deepseek-v3-h100-2048", "deepseek-v3-b200-1024"])
def test_ready_layouts_are_the_fastest_that_plan_finds(name, tmp_path):
    ready = json.loads(run("presets", "show", name).stdout)
    assert ready.pop("note") == "the fastest layout that mmoe plan finds with ZeRO 1"
    layout, training = ready["parallelism"], ready["training"]
    ready["parallelism"] = {"zero_stage": layout["zero_stage"]}
    searched = {key: training.pop(key) for key in ("micro_batch_size", "recompute", "moe")}
    (tmp_path / "job.json").write_text(json.dumps(ready))
    best = json.loads(run("plan", "--job", tmp_path / "job.json", "--top", "1", "--json").stdout)["candidates"][0]
    searched["moe"] = {**best["training"]["moe"], **searched["moe"]}
    assert {key: best["parallelism"][key] for key in layout} == layout
    assert {key: best["training"][key] for key in searched} == searched
    plain = {"context_kind": "ring", "stage_layers": [], "schedule": "1F1B", "zero_group": 0, "sequence": False}
    assert all(value == plain.get(key, 1) for key, value in best["parallelism"].items() if key not in layout)
    assert best["training"]["offload"] == "none" and best["training"]["recompute_num_layers"] == 0


# Bounds well above today's errors on all given rows: they catch a broken model, they are no claim of accuracy.
BOUNDS = {
    "simumax_b200": ["peak_allocated_bytes=0.004", "step_seconds=0.045"],
    "megatron_ci_golden": ["static_bytes=0.012", "peak_allocated_bytes=0.022"],
    "vtrain_a100": ["step_seconds=0.08"],
    "llm_foundry": ["step_seconds=0.055"],
    "dgxc_recipes": ["step_seconds=0.05"],
    "megatron_bridge": ["step_seconds=0.09"],
    "nanotron_h100_sweep": ["fits=0.98", "peak_reserved_bytes=0.06"],
    "papers_and_reports": [],
}


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_every_row_of_the_published_tables_is_predicted_or_listed(table, name):
    path, rows = table(name)
    words = [word for bound in BOUNDS[name] for word in ("--bound", bound)]
    result = run("validate", "--table", path, "--json", *words)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    known = {row["id"] for row in report["rows"]} | {row["id"] for row in report["unmodelled"]}
    assert known == {row["id"] for row in rows}
    assert all(row["reason"] for row in report["unmodelled"])
    assert all(row["predicted"] > 0 for row in report["rows"] if row["quantity"] != "fits")
    # The same rows with values that were fitted to nothing stand beside.
    assert report["raw"]["summary"].keys() == report["summary"].keys()
    assert report["raw"]["summary_by_stratum"].keys() == report["summary_by_stratum"].keys()


def test_all_published_tables_of_runs_are_tested():
    other = {"model_configs", "peers"}
    assert {path.name.removesuffix(".csv.gz") for path in PUBLISHED} - other == set(BOUNDS)


def test_a_bound_that_is_passed_is_exit_3(table):
    path, _ = table("simumax_b200")
    assert run("validate", "--table", path, "--bound", "step_seconds=0.001").returncode == 3
    unknown = run("validate", "--table", path, "--bound", "step_second=0.1")
    assert unknown.returncode == 2 and "step_second=0.1" in unknown.stderr


def test_table_mistakes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1\n")
    assert "line 2" in error_line(run("validate", "--table", path))
    for words in ((), ("--table", path, "--run", tmp_path)):
        assert "--table FILE or --run RUN" in error_line(run("validate", *words))
    assert "job.json" in error_line(run("validate", "--run", tmp_path))
    assert "cannot be read" in error_line(run("validate", "--table", tmp_path / "none.csv"))


def test_calibrate_fits_a_framework_to_a_table(table, tmp_path):
    path, _ = table("simumax_b200")
    out = tmp_path / "fit.json"
    result = run("calibrate", "--table", path, "--fit", "gemm_efficiency", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    fit = json.loads(out.read_text())
    assert fit["rows"] == 20
    assert fit["parameters"]["gemm_efficiency"]["low"] < fit["parameters"]["gemm_efficiency"]["value"] < 1
    assert {row["model"] for row in fit["measured_rows"]} and all(row["held_out"] > 0 for row in fit["measured_rows"])
    assert sum(s["after"]["count"] for s in fit["strata"].values()) == 20
    assert "gem_efficiency" in error_line(run("calibrate", "--table", path, "--fit", "gem_efficiency", "--out", out))
    unknown = error_line(run("calibrate", "--table", path, "--fit", "gemm_efficiency", "--start", "no", "--out", out))
    assert "--start" in unknown


def test_budget_of_a_cluster_job_saves_what_was_asked_for():
    result = run("budget", "--job", "m-moe-100b-h100-1024", "--saving", "0.05", "--steps", "1000", "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["saving_fraction"]["p99"] >= 0.05
    assert plan["saving_fraction"]["mean"] < plan["saving_fraction"]["p99"] < plan["saving_fraction"]["k_max"]
    assert plan["probability_within_limit"] >= 0.99
    assert 0 < plan["kl_divergence"]["all"]
    assert plan["throughput"]["step_seconds"]["mean"] < plan["without"]["throughput"]["step_seconds"]["mean"]
    assert len(plan["marginals"]) == 48


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--saving", "0.9"], 3, ["no budget reaches the goal", "k = 1 in every MoE layer"]),
        (["--memory-limit", "5GiB"], 3, ["no budget reaches the goal", "above the limit of"]),
        (["--saving", "0.1", "--confidence", "1"], 2, ["--confidence = 1.0", "between 0 and 1"]),
        (["--saving", "0.1", "--confidence", "0"], 2, ["--confidence = 0.0", "between 0 and 1"]),
        (["--saving", "0.1", "--memory-limit", "60GiB"], 2, ["two goals"]),
        (["--saving", "1.2"], 2, ["--saving = 1.2"]),
        (["--elastic.budget", "none", "--elastic.granularity", "micro_batch"], 2, ["elastic.granularity"]),
    ],
)
def test_impossible_budgets_of_a_cluster_job_say_why(flags, code, words):
    result = run("budget", "--job", "m-moe-100b-h100-1024", "--steps", "100", *flags)
    assert result.returncode == code
    line = result.stderr.strip()
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_budget_counts_the_busiest_expert_rank_at_every_k(tmp_path):
    """At k = 1 the first of four ranks gets every row, at k = 4 (of 8 experts, two a rank) half of them."""

    def metrics(num_layers):
        layer = {k: [100 * min(k, 2) / 2] * 2 + [100 * (k - min(k, 2)) / 6] * 6 for k in (1, 2, 3, 4)}
        lines = [
            {"k_per_layer": [[k] * num_layers], "moe": [{"tokens_per_expert": {"by_expert": rows}}] * num_layers}
            for k, rows in layer.items()
        ]
        path = tmp_path / f"metrics_{num_layers}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    model = {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 8, "expert_hidden_size": 32}
    job = {
        "model": model,
        "hardware": {"device": "cpu", "num_devices": 4},
        "parallelism": {"expert": 4},
        "training": {"seq_len": 64, "micro_batch_size": 8, "global_batch_size": 32, "precision": "fp32"},
        "elastic": {"k_min": 1, "k_max": 4, "share": "replicas"},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = ("budget", "--job", tmp_path / "job.json", "--saving", "0.05", "--steps", "1000", "--json")
    balanced = json.loads(run(*words).stdout)
    assert balanced["expert_load_by_k"] == [1, 1, 1, 1]
    result = run(*words, "--training.moe.load", metrics(4))
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["expert_load_by_k"] == pytest.approx([4, 4, 8 / 3, 2], abs=1e-6)
    assert plan["expert_load_factor"] == max(plan["expert_load_by_k"])
    assert plan["without"]["peak_allocated_bytes"] > balanced["without"]["peak_allocated_bytes"]
    # One share an expert says the same: from k = 2 on both experts are full.
    (tmp_path / "load.json").write_text("[1, 1, 0, 0, 0, 0, 0, 0]")
    shares = json.loads(run(*words, "--training.moe.load", tmp_path / "load.json").stdout)
    assert shares["expert_load_by_k"] == pytest.approx([4, 4, 8 / 3, 2])
    assert shares["without"]["peak_allocated_bytes"] == pytest.approx(plan["without"]["peak_allocated_bytes"], rel=1e-6)
    line = error_line(run(*words, "--training.moe.load", metrics(3)))
    assert "tells of 3 MoE layers" in line and "the job has 4" in line
