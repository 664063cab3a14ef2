"""The page of analysis/gpu_check.py follows from its table."""

import csv
import pathlib

import gpu_check

ANALYSIS = pathlib.Path(gpu_check.__file__).parent


def committed_rows():
    with (ANALYSIS / "gpu_check.csv").open() as file:
        return [
            {key: value if key == "run" else float(value) for key, value in row.items()} for row in csv.DictReader(file)
        ]


def test_every_run_has_a_row():
    assert [row["run"] for row in committed_rows()] == list(gpu_check.RUNS)


def test_the_committed_page_is_made_of_the_committed_rows():
    committed = (ANALYSIS / "gpu_check.md").read_text().splitlines()
    rows = [{**row, "steps": int(row["steps"])} for row in committed_rows()]
    made = gpu_check.page(rows, {}, "h200-sxm-141gb").splitlines()
    losses = [line for line in committed if ": losses on GPU and CPU" in line]
    assert len(losses) == len(gpu_check.PAIRS)
    assert [line for line in committed if line not in losses] == made


def test_losses_of_the_same_draws_are_compared(tmp_path):
    class Arguments:
        runs = tmp_path

    for run, loss in (("a", 2.0), ("b", 2.5)):
        (tmp_path / run).mkdir()
        lines = [f'{{"step": {step}, "k_per_layer": [[1, 2]], "loss": {loss * step}}}\n' for step in (1, 2)]
        (tmp_path / run / "metrics.jsonl").write_text("".join(lines))
    assert gpu_check.largest_loss_difference(("a", "b"), Arguments) == 1.0
