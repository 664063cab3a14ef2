"""The page on budgets of expert-parallel jobs follows from the table of its runs."""

import json
import pathlib

import budget_promise
import budget_promise_experts
import experiment

FOLDER = pathlib.Path(budget_promise_experts.__file__).parent


def row(name, kept, error, blind_steps):
    figures = dict.fromkeys(budget_promise_experts.COLUMNS, "0.125")
    texts = {"bound": "exact [4]", "blind_bound": "none", "steps": "10", "loads_above": "3 of 5"}
    counts = {"kept": str(kept), "error_points": str(error), "blind_steps_above_limit": str(blind_steps)}
    return figures | {"configuration": name} | texts | counts


def test_the_committed_page_follows_from_the_committed_runs():
    rows = budget_promise.read_rows(FOLDER / "budget_promise_experts.csv")
    assert [row["configuration"] for row in rows] == list(budget_promise_experts.CONFIGURATIONS)
    assert all(int(row["steps"]) >= 2000 for row in rows)
    below = experiment.section((FOLDER / "budget_study.md").read_text(), budget_promise_experts.HEADING)[1]
    assert below.strip() == "\n".join(budget_promise_experts.page(rows))


def test_broken_promises_and_uneven_steps_are_told():
    text = "\n".join(budget_promise_experts.page([row("a", True, 0.5, 0), row("b", False, -2.5, 7)]))
    assert "| a | 0.12, 0.12 | exact 4 | 0.12 of 0.12 | 12.50% (12.50%) | none: 0.12, 0.12 |" in text
    assert "kept its limit in 1 of 2; in 6 of 10 stretches of 20 steps routing was more uneven" in text
    assert "one in 1 of 2. The blind bound passes the limit in 7 of 20 steps" in text


def test_load_factors_add_up_layers_and_experts_of_a_rank(tmp_path):
    counts = ([3, 1, 0, 0, 0, 0, 2, 2], [1, 1, 1, 1, 1, 1, 1, 1])
    moe = [{"tokens_per_expert": {"by_expert": by_expert}} for by_expert in counts]
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"moe": moe}) + "\n")
    assert budget_promise_experts.load_factors(tmp_path) == [6 / 16 * 4]
