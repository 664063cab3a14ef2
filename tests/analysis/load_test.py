"""The loader: whole runs, interrupted runs, and the user's mistakes as one line."""

import pytest
from fake_run import STEPS, files, write_run
from load import PARTS, DataError, Missing, load_run


def test_a_complete_run_misses_nothing(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    assert run.missing == []
    assert len(run.metrics) == STEPS
    assert run.plan.at("memory.stages")[0]["weights_bytes"] > 0


def test_every_part_is_in_the_fake_run():
    assert set(files()) == {file for file, _ in PARTS.values()}


def test_an_interrupted_run_names_what_is_missing(tmp_path):
    run = load_run(write_run(tmp_path / "run", without=("allocation.json", "loop.json")))
    assert run.missing == ["allocation.json", "loop.json"]
    with pytest.raises(Missing, match="allocation.json is not in this run yet; mmoe allocate writes it"):
        run.need("metrics", "allocation")


def test_a_job_without_a_budget_does_not_miss_its_file(tmp_path):
    folder = write_run(tmp_path / "run", without=("budget.json", "job.json"))
    (folder / "job.json").write_text('{"elastic": {"k_max": 6}}')
    assert load_run(folder).missing == []


def test_a_cut_last_line_is_dropped(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 301, "lo')
    assert len(load_run(folder).metrics) == STEPS


def test_a_damaged_line_is_an_error(tmp_path):
    folder = write_run(tmp_path / "run")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], "{", *lines[2:]]) + "\n")
    with pytest.raises(DataError, match="metrics.jsonl: line 2 is no JSON"):
        load_run(folder)


def test_a_missing_key_names_file_and_key(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    with pytest.raises(DataError, match="plan.json: key memory.nothing is missing"):
        run.plan.at("memory.nothing")
    assert run.plan.find("memory.nothing", 7) == 7


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_damaged_file_is_an_error(tmp_path, text):
    folder = write_run(tmp_path / "run")
    (folder / "plan.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="plan.json"):
        load_run(folder)


def test_no_folder_and_no_run_are_errors(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_run(tmp_path / "none")
    with pytest.raises(DataError, match="give a run folder"):
        load_run(tmp_path)
