"""The page on budgets of expert-parallel jobs follows from the table of its runs."""

import pathlib

import budget_promise
import budget_promise_experts
import experiment

FOLDER = pathlib.Path(budget_promise_experts.__file__).parent


def row(name, kept, error, blind_steps):
    figures = dict.fromkeys(budget_promise_experts.COLUMNS, "0.125")
    texts = {"bound": "exact [4]", "blind_bound": "none", "steps": "10", "load_by_k": "2.00 1.50", "load_by_k_after": "1.90 1.40"}
    counts = {"kept": str(kept), "error_points": str(error), "blind_steps_above_limit": str(blind_steps)}
    return figures | {"configuration": name} | texts | counts


def test_the_committed_page_follows_from_the_committed_runs():
    rows = budget_promise.read_rows(FOLDER / "budget_promise_experts.csv")
    assert [row["configuration"] for row in rows] == list(budget_promise_experts.CONFIGURATIONS)
    assert all(int(row["steps"]) >= 2000 for row in rows)
    below = experiment.section((FOLDER / "budget_study.md").read_text(), budget_promise_experts.HEADING)[1]
    assert below.strip() == "\n".join(budget_promise_experts.page(rows))


def test_broken_promises_and_blind_bounds_are_told():
    text = "\n".join(budget_promise_experts.page([row("a", True, 0.5, 0), row("b", False, -2.5, 7)]))
    assert (
        "| a | 2.00 1.50; 1.90 1.40 | exact 4 | 0.12 of 0.12 (0.12) | 12.50% (12.50%) | none: 0.12, 0.12 |" in text
    ), text
    assert "kept its limit in 1 of 2. The saving is within one point of the predicted one in 1 of 2" in text
    assert "the largest error is 2.50 points. The blind bound passes the limit in 7 of 20 steps" in text


def test_runs_that_are_there_are_not_repeated(tmp_path, monkeypatch):
    trained = []

    def run(*words, progress):
        words = [str(word) for word in words]
        trained.append(words[words.index("--out") + 1])
        folder = pathlib.Path(trained[-1])
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("{}\n" * int(words[words.index("--steps") + 1]))

    monkeypatch.setattr(budget_promise_experts, "run", run)
    runs = budget_promise_experts.Runs(pathlib.Path("bin"), "data", tmp_path / "model", {})
    for steps in (3, 3, 5):  # the second is there; the third is another run, which replaces it
        runs.train("free", steps, {})
    assert trained == [str(tmp_path / "model" / "free")] * 2
    monkeypatch.setattr(budget_promise_experts, "MEASURED_STEPS", 2)
    assert runs.load_of("free").read_text() == "{}\n" * 2
