"""The committed prediction at scale: its table follows from its rows, and its rows from their own numbers."""

import csv
import pathlib

import budget_at_scale
import pytest

FOLDER = pathlib.Path(budget_at_scale.__file__).parent
NUMBERS = set(budget_at_scale.COLUMNS) - {"recompute", "fits", "outcome", "kind", "use"}


@pytest.fixture(scope="module")
def rows():
    with open(FOLDER / "budget_at_scale.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        row["fits"] = row["fits"] == "True"
        for name in NUMBERS:
            row[name] = float(row[name]) if row[name] else None
        row["pipeline"] = int(row["pipeline"])
    return found


def test_the_table_follows_from_the_rows(rows):
    assert budget_at_scale.table(rows) == (FOLDER / "budget_at_scale.md").read_text()


def test_outcomes_agree_with_the_share_that_depends_on_k(rows):
    assert {row["outcome"] for row in rows} >= {"holds", "too little depends on k"}
    for row in rows:
        share = row["k_dependent_fraction"]
        if row["outcome"] == "holds":
            assert budget_at_scale.SAVING <= row["saving_p99"] <= share
            assert row["saving_mean"] < row["saving_p99"] < row["saving_k_max"]
            assert 1 < row["mean_k"] < 3.5
        elif row["outcome"] == "too little depends on k":
            assert share < budget_at_scale.SAVING


def test_figure_draws_the_rows(rows, tmp_path):
    budget_at_scale.figure(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
