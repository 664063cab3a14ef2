"""mmoe-bench from outside: every operation both ways, and profiles that `mmoe calibrate` reads."""

import json
import subprocess

import pytest

from train_program import ENVIRONMENT, program_folder, write_job

PROGRAMS = program_folder()
BENCH = PROGRAMS and PROGRAMS / "mmoe-bench"
pytestmark = pytest.mark.skipif(BENCH is None or not BENCH.exists(), reason="mmoe-bench is not built")


def run(*words, program=BENCH):
    words = [str(program), *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)


def test_every_kernel_is_timed_beside_libtorch_and_the_peaks():
    result = run("--benchmark_min_time=0", "--benchmark_format=json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    timed = {entry["name"].removesuffix("/real_time"): entry for entry in report["benchmarks"]}
    kernels = """attention_backward attention_forward combine cross_entropy dispatch dispatch_and_gather
        embedding_backward gather grouped_gemm_balanced grouped_gemm_zipf grouped_gradient_balanced
        grouped_gradient_zipf one_gemm rms_norm_backward rms_norm_forward rope router_backward router_forward
        scatter_add swiglu_backward swiglu_forward""".split()
    wanted = {f"{kernel}/{type}{way}" for kernel in kernels for type in ("fp32", "bf16") for way in ("", "/aten")}
    assert set(timed) == wanted
    for name, entry in timed.items():
        assert "error_occurred" not in entry, entry
        assert entry["GB/s"] > 0 and entry["of_stream"] > 0, name
        assert ("of_mm" in entry) == any(word in name for word in ("attention", "gemm", "gradient")), name
    context = report["context"]
    assert float(context["stream_gb_per_s_fp32"]) > 0 and float(context["mm_gflop_per_s_bf16"]) > 0


def test_a_layer_becomes_a_profile_that_calibrate_reads(tmp_path):
    job = write_job(tmp_path / "job.json")
    profile, calibration = tmp_path / "profile.json", tmp_path / "calibration.json"
    result = run("--profile", profile, "--job", job, "--repetitions", 3, "--threads", 1)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("stream ") and "mm in fp32" in lines[0]
    assert any(line.split()[:4] == ["experts", "backward", "2", "6"] for line in lines), result.stdout
    records = json.loads(profile.read_text())
    operations = {(record["operation"], record["phase"]) for record in records["operations"]}
    assert {("experts", "forward"), ("experts", "backward"), ("optimizer", "update")} <= operations
    assert records["jobs"][0]["training"]["operations"] == "kernels"

    fit = run("calibrate", "--profile", profile, "--out", calibration, "--json", program=PROGRAMS / "mmoe")
    assert fit.returncode == 0, fit.stderr
    result = json.loads(fit.stdout)
    assert result["records"]["fitted"] > 0 and "operation_seconds" in result["after"]


@pytest.mark.parametrize(
    "words, named",
    [
        (("--profil", "x.json"), "--profil"),
        (("--job", "job.json"), "--profile"),
        (("--profile", "x.json", "--repetitions", "0"), "--repetitions 0"),
        (("--threads", "0"), "--threads"),
    ],
)
def test_wrong_flags_are_one_line(words, named):
    result = run(*words)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and named in result.stderr, result.stderr
