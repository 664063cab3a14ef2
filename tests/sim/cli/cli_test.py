"""The program `mmoe` from outside: exit codes, what goes to which stream, help, errors of one line."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


def program_folder():
    """MMOE_BIN, else bin of the tested build folder, else of the usual ones."""
    folders = [os.environ.get("MMOE_BIN")]
    if "MMOE_BINARY_DIR" in os.environ:
        folders.append(os.path.join(os.environ["MMOE_BINARY_DIR"], "bin"))
    folders += [ROOT / "build" / "dev" / "bin", ROOT / "build" / "bin"]
    for folder in folders:
        if folder and (pathlib.Path(folder) / "mmoe").exists():
            return pathlib.Path(folder)
    pytest.skip("mmoe is not built: make build")


def run(*words, cwd=None, folder=None):
    return subprocess.run(
        [str((folder or program_folder()) / "mmoe"), *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=60
    )


def error_line(result):
    assert result.returncode == 2, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mmoe: error: ")
    return lines[0]


@pytest.fixture
def job(tmp_path):
    """A job file that fits on any machine; `job(**{"model.num_layers": 2})` changes keys."""

    def write(name="job.json", **changes):
        content = {
            "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 8, "expert_hidden_size": 32},
            "hardware": {"device": "h100-sxm-80gb"},
            "training": {"seq_len": 128, "micro_batch_size": 2, "global_batch_size": 4, "precision": "bf16", "tokens": 1e6},
            "elastic": {"k_min": 1, "k_max": 6},
        }
        for key, value in changes.items():
            *sections, last = key.split(".")
            node = content
            for section in sections:
                node = node.setdefault(section, {})
            node[last] = value
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


def commands():
    lines = run("--help").stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    return [line.split()[0] for line in lines]


def test_help_lists_commands_and_exit_codes():
    result = run("--help")
    assert result.returncode == 0
    assert {"simulate", "compare", "presets", "train", "eval", "loop"} <= set(commands())
    assert "2 bad input" in result.stdout


def test_no_command_is_bad_input():
    result = run()
    assert result.returncode == 2
    assert "Usage: mmoe COMMAND" in result.stderr
    assert result.stdout == ""


def test_version():
    version = (ROOT / "CMakeLists.txt").read_text().split("project(mmoe VERSION ")[1].split()[0]
    assert run("--version").stdout == f"mmoe {version}\n"


def test_unknown_command_names_the_nearest():
    assert "did you mean mmoe simulate?" in error_line(run("simulat"))


@pytest.mark.parametrize("command", ["simulate", "plan", "budget", "compare", "presets", "calibrate", "loop", "report"])
def test_each_planning_command_has_help_with_an_example(command):
    result = run(command, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert f"mmoe {command}" in result.stdout.split("Example:")[1]
    assert "--json" in result.stdout and "--config" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 130


def test_mmoe_links_no_libtorch():
    if shutil.which("ldd") is None:
        pytest.skip("ldd is not there")
    listed = subprocess.run(["ldd", program_folder() / "mmoe"], capture_output=True, text=True, check=True).stdout
    libraries = [line.split()[0] for line in listed.splitlines()]  # addresses beside them are random
    assert not any(word in library for library in libraries for word in ("torch", "c10", "cuda"))


def test_trainer_commands_say_when_the_trainer_is_missing(tmp_path):
    shutil.copy(program_folder() / "mmoe", tmp_path / "mmoe")
    assert "mmoe-train was not built: make build" in error_line(run("train", "--job", "x", folder=tmp_path))


def test_trainer_commands_pass_all_words_on(tmp_path):
    shutil.copy(program_folder() / "mmoe", tmp_path / "mmoe")
    trainer = tmp_path / "mmoe-train"
    trainer.write_text(f"#!{sys.executable}\nimport sys, json\nprint(json.dumps(sys.argv[1:]))\nsys.exit(7)\n")
    trainer.chmod(0o755)
    result = run("train", "--job", "a b.json", "--help", folder=tmp_path)
    assert result.returncode == 7
    assert json.loads(result.stdout) == ["train", "--job", "a b.json", "--help"]


class TestPresets:
    def test_list(self):
        result = run("presets")
        assert result.returncode == 0
        for name in ("mixtral-8x7b", "olmoe-elastic-h100", "h100-sxm-80gb", "dgx-h100", "m-moe-20b", "cpu"):
            assert name in result.stdout
        names = json.loads(run("presets", "--json").stdout)
        assert set(names) == {"models", "jobs", "clusters", "devices"}

    def test_show_prints_the_file(self):
        shown = run("presets", "show", "olmoe-elastic-h100").stdout
        assert shown == (ROOT / "profiles" / "presets" / "jobs" / "olmoe-elastic-h100.json").read_text()

    def test_mistakes(self):
        assert "mixtral-8x7b" in error_line(run("presets", "show", "mixtral-8x7"))
        assert "which one" in error_line(run("presets", "show"))
        assert "unexpected word" in error_line(run("presets", "list", "x"))


class TestFlags:
    @pytest.mark.parametrize("command", ["simulate", "plan", "budget", "compare", "calibrate"])
    def test_unknown_flag(self, command):
        assert "unknown flag --frobnicate" in error_line(run(command, "--frobnicate"))

    def test_the_nearest_flag_is_named(self):
        assert "unknown flag --jbo; did you mean --job?" in error_line(run("simulate", "--jbo", "x"))

    def test_missing_job(self):
        assert "--job is missing" in error_line(run("simulate"))

    def test_missing_file(self):
        line = error_line(run("simulate", "--job", "no/such/job.json"))
        assert "no/such/job.json" in line and "No such file" in line

    def test_unknown_ready_job_lists_the_ready_ones(self):
        assert "olmoe-elastic-h100" in error_line(run("simulate", "--job", "mixtral-8x7b"))

    def test_stray_word(self, job):
        assert 'unexpected word "more"' in error_line(run("simulate", "--job", job(), "more"))


class TestJobErrors:
    @pytest.mark.parametrize(
        "change, fragments",
        [
            ({"training.seq_length": 1}, ["unknown key training.seq_length", "training.seq_len"]),
            ({"model.num_heads": 3}, ["model.num_heads = 3", "hidden_size"]),
            ({"elastic.k_max": 9}, ["elastic.k_max = 9", "model.num_experts = 8"]),
            ({"elastic.budget": {"sum_k": 3}}, ["elastic.budget.sum_k = 3", "below the least"]),
            ({"elastic.budget": {"sum_k": 25}}, ["elastic.budget.sum_k = 25", "above the largest"]),
            ({"hardware.device": "h1000"}, ["hardware.device", "h1000", "cpu"]),
            ({"training.seq_len": "x"}, ["training.seq_len", "whole number"]),
        ],
    )
    def test_one_line_with_file_and_key(self, job, change, fragments):
        path = job(**change)
        line = error_line(run("simulate", "--job", path))
        assert str(path) in line
        for fragment in fragments:
            assert fragment in line

    def test_broken_json_names_line_and_column(self, tmp_path):
        path = tmp_path / "job.json"
        path.write_text('{\n  "model": {,}\n}')
        assert f"{path}:2:13" in error_line(run("simulate", "--job", path))

    def test_a_flag_wins_over_the_file(self, job):
        assert "parallelism.tensor = 3" in error_line(run("simulate", "--job", job(), "--parallelism.tensor", 3))


class TestSimulate:
    def test_json_has_the_keys_of_the_contract(self, job):
        result = run("simulate", "--job", job(), "--json")
        assert result.returncode == 0, result.stderr
        plan = json.loads(result.stdout)
        assert plan["fits"] is True
        assert plan["fit"]["verdict"] == "fits"
        stage = plan["memory"]["stages"][0]
        assert {"weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "buffers_bytes"} <= set(stage)
        assert plan["memory"]["peak_allocated_bytes"] > stage["weights_bytes"] > 0
        assert plan["throughput"]["step_seconds"] > 0
        assert {"mean", "std", "p50", "p99", "max"} <= set(plan["elastic"]["sum_k"])
        assert plan["elastic"]["sum_k"]["mean"] == pytest.approx(4 * 3.5)

    def test_table(self, job):
        result = run("simulate", "--job", job())
        assert result.returncode == 0, result.stderr
        for word in ("GiB", "weights", "activations", "tokens/s", "MFU", "sum of k", "p99"):
            assert word in result.stdout, word
        assert max(map(len, result.stdout.splitlines()[1:])) <= 130  # the first line holds the path

    def test_what_does_not_fit_is_exit_3_and_a_line(self, job):
        result = run("simulate", "--job", job(), "--hardware.usable_memory_gib", "0.001")
        assert result.returncode == 3
        assert len(result.stderr.splitlines()) == 1
        assert "does not fit" in result.stderr
        assert "GiB" in result.stdout

    def test_print_config_is_a_job_file(self, job, tmp_path):
        result = run("simulate", "--job", job(), "--print-config", "--parallelism.zero_stage", 1)
        assert result.returncode == 0, result.stderr
        resolved = json.loads(result.stdout)
        assert resolved["parallelism"]["zero_stage"] == 1
        assert resolved["model"]["head_dim"] == 16
        again = tmp_path / "resolved.json"
        again.write_text(result.stdout)
        assert json.loads(run("simulate", "--job", again, "--print-config").stdout) == resolved

    def test_ready_job_by_name(self):
        result = run("simulate", "--job", "olmoe-elastic-h100", "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["fits"] is True

    def test_sweep(self, job):
        result = run("simulate", "--job", job(), "--sweep", "training.micro_batch_size=1,2,4,3", "--csv")
        assert result.returncode == 0, result.stderr
        header, *rows = result.stdout.splitlines()
        assert header.split(",")[0] == "training.micro_batch_size"
        assert [row.split(",")[0] for row in rows] == ["1", "2", "4", "3"]
        peaks = [float(row.split(",")[header.split(",").index("peak_allocated_bytes")]) for row in rows[:3]]
        assert peaks == sorted(peaks)
        assert "training.global_batch_size = 4" in rows[3]

    def test_sweep_of_two_keys_is_their_product(self, job):
        result = run("simulate", "--job", job(), "--sweep", "training.micro_batch_size=1,2", "--sweep", "elastic.k_max=2,6", "--json")
        points = json.loads(result.stdout)["points"]
        keys = ("training.micro_batch_size", "elastic.k_max")
        assert [tuple(point["overrides"][key] for key in keys) for point in points] == [("1", "2"), ("1", "6"), ("2", "2"), ("2", "6")]

    @pytest.mark.parametrize("sweep", ["training.micro_batch_size", "training.micro_batch=1,2", "=1", "training.micro_batch_size="])
    def test_sweep_mistakes(self, job, sweep):
        assert "--sweep" in error_line(run("simulate", "--job", job(), "--sweep", sweep))

    def test_config_file_of_flags(self, job, tmp_path):
        path = tmp_path / "flags.cfg"
        path.write_text(f"job = {job()}\njson = true\n[elastic]\nk_max = 2\n")
        plan = json.loads(run("simulate", "--config", path).stdout)
        assert plan["elastic"]["sum_k"]["mean"] == pytest.approx(4 * 1.5)

    def test_a_missing_calibration_is_named(self, job, tmp_path):
        assert "none.json" in error_line(run("simulate", "--job", job(), "--calibration", tmp_path / "none.json"))


class TestCompare:
    def test_differing_keys_and_numbers_side_by_side(self, job):
        a, b = job("a.json"), job("b.json", **{"elastic.k_max": 2, "training.micro_batch_size": 4})
        result = run("compare", "--job", a, "--job", b)
        assert result.returncode == 0, result.stderr
        for word in ("elastic.k_max", "training.micro_batch_size", "weights", "step"):
            assert word in result.stdout, word
        assert "training.seq_len" not in result.stdout
        content = json.loads(run("compare", "--job", a, "--job", b, "--json").stdout)
        assert content["differences"]["elastic.k_max"] == [6, 2]
        assert [entry["fits"] for entry in content["jobs"]] == [True, True]

    def test_one_job_is_no_comparison(self, job):
        assert "at least twice" in error_line(run("compare", "--job", job()))


def test_a_full_disk_is_our_fault_in_one_line():
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("/dev/full is not there")
    with open("/dev/full", "w") as full:
        result = subprocess.run([str(program_folder() / "mmoe"), "presets"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "standard output" in result.stderr
