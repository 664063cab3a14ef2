"""The page on the promise of tuned budgets follows from the table of its runs."""

import pathlib

import budget_promise
import experiment

FOLDER = pathlib.Path(budget_promise.__file__).parent


def row(name, kept, error):
    figures = dict.fromkeys(budget_promise.COLUMNS, "0.125")
    return figures | {"configuration": name, "bound": "exact [4, 5]", "kept": str(kept), "error_points": str(error)}


def test_the_committed_page_follows_from_the_committed_runs():
    rows = budget_promise.read_rows(FOLDER / "budget_promise.csv")
    assert [row["configuration"] for row in rows] == list(budget_promise.CONFIGURATIONS)
    below = experiment.section((FOLDER / "budget_study.md").read_text(), budget_promise.HEADING)[1]
    assert below.strip() == "\n".join(budget_promise.page(rows))


def test_a_broken_promise_and_the_largest_error_are_told():
    text = "\n".join(budget_promise.page([row("a", True, 0.5), row("b", False, -2.5)]))
    assert "| a | exact 4, 5 | 0.12 of 0.12 | 12.50% (12.50%) | 12.50% (12.50%) |" in text
    assert "kept its limit in 1 of 2" in text
    assert "in 1 of 2; the largest error is 2.50 points (b)" in text
