"""Cluster jobs and tables of measured runs from outside: `mmoe simulate`, `plan`, `validate`, `calibrate --table`."""

import csv
import gzip
import json

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


def test_what_does_not_fit_comes_with_changes_that_make_it_fit():
    result = run("simulate", "--job", "llama3-70b-h100-64", "--hardware.usable_memory_gib", "60", "--json")
    assert result.returncode == 3
    remedies = json.loads(result.stdout)["fit"]["remedies"]
    assert remedies
    again = run(*remedies[0]["command"].replace("'", "").split()[1:])
    assert again.returncode == 0, again.stderr


def test_trace_is_a_chrome_trace(tmp_path):
    path = tmp_path / "trace.json"
    assert run("simulate", "--job", "llama3-70b-h100-64", "--trace", path).returncode == 0
    assert json.loads(path.read_text())["traceEvents"]


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


# Bounds well above today's errors on all given rows: they catch a broken model, they are no claim of accuracy.
BOUNDS = {
    "simumax_b200": ["peak_allocated_bytes=0.004", "step_seconds=0.045"],
    "megatron_ci_golden": ["static_bytes=0.012", "peak_allocated_bytes=0.022"],
    "vtrain_a100": ["step_seconds=0.08"],
    "llm_foundry": ["step_seconds=0.055"],
    "dgxc_recipes": ["step_seconds=0.08"],
    "megatron_bridge": ["step_seconds=0.12"],
    "nanotron_h100_sweep": ["fits=0.95"],
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
    assert "cannot be read" in error_line(run("validate", "--table", tmp_path / "none.csv"))


def test_calibrate_fits_a_framework_to_a_table(table, tmp_path):
    path, _ = table("simumax_b200")
    out = tmp_path / "fit.json"
    result = run("calibrate", "--table", path, "--fit", "gemm_efficiency", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    fit = json.loads(out.read_text())
    assert fit["rows"] == 20
    assert fit["parameters"]["gemm_efficiency"]["low"] < fit["parameters"]["gemm_efficiency"]["value"] < 1
    assert "gem_efficiency" in error_line(run("calibrate", "--table", path, "--fit", "gem_efficiency", "--out", out))


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
