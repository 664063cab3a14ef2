"""The README's table of errors on published runs is what `mmoe validate` says of them."""

import os
import pathlib
import statistics

import accuracy_table
import experiment
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin"


def test_the_readme_has_the_table_that_is_written_today():
    _, table, _ = experiment.section((ROOT / "README.md").read_text(), accuracy_table.HEADING)
    assert table.strip().splitlines() == accuracy_table.compute(BIN)


def row(name, quantity, error, stratum):
    return {"id": name, "quantity": quantity, "error_fraction": error, "stratum": stratum}


@pytest.fixture
def tables():
    known = [("a", "9", "1"), ("b", "", "1"), ("c", "20", "2")]
    columns = {name: {"mfu_pct": mfu, "table": table} for name, mfu, table in known}
    rows = [
        row("a", "step_seconds", 0.1, "x dense one node"),
        row("b", "step_seconds", -0.3, "x MoE one node"),
        row("c", "step_seconds", 0.05, "x MoE one node"),
        row("c", "mfu", 0.5, "x MoE one node"),
    ]
    return {"runs": (columns, {"rows": rows})}


def test_a_line_covers_the_rows_that_it_names(tables):
    def errors(**choice):
        return accuracy_table.errors_of({"table": "runs", "quantities": ["step_seconds"], **choice}, tables)

    assert errors() == [0.1, -0.3, 0.05]
    assert errors(strata="x MoE.*") == [-0.3, 0.05]
    assert errors(least_mfu_pct=8) == [0.1, 0.05]
    assert errors(where={"table": "1"}) == [0.1, -0.3]
    assert errors(**{"except": [{"table": "1"}]}) == [0.05]
    assert errors(quantities=["step_seconds", "mfu"], where={"table": "2"}) == [0.05, 0.5]


def test_a_line_gives_mean_errors_median_and_bias_by_part(tables):
    dense = {"table": "runs", "quantities": ["step_seconds"], "strata": "x dense.*"}
    moe = {"table": "runs", "quantities": ["step_seconds"], "strata": "x MoE.*"}
    line = {"runs": "dense / MoE", "quantity": "step time", "held_out": "", "parts": [dense, moe]}
    assert accuracy_table.cells(line, tables)[2:] == ["1 / 2", "10.0 / 17.5 %", "", "10.0 / -12.5 %"]
    one = {**line, "parts": [{"table": "runs", "quantities": ["step_seconds"]}], "median": True}
    assert accuracy_table.cells(one, tables)[3] == f"15.0 %, median {100 * statistics.median([0.1, 0.3, 0.05]):.1f} %"
