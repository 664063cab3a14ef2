"""The page of the budget study, from a study of two arms made up here."""

import csv
import json
import pathlib

import budget_study
import experiment
import pytest

FOLDER = pathlib.Path(budget_study.__file__).parent


def summary(mean, half=0.5):
    return {
        "count": 2,
        "mean": mean,
        "std": half,
        "low": mean - half,
        "high": mean + half,
        "lower_bound": mean - half / 2,
        "upper_bound": mean + half / 2,
        "smallest_resolvable": half,
    }


def arm(name, peak, saving, difference, trained=True):
    law = {"mean": peak, "std": 0, "p50": peak, "p99": peak, "max": peak}
    savings = {of: summary(saving, 0.01) for of in ("mean", "p99", "max")}
    quality = {
        "worst_k_loss": 3 + difference,
        "worst_k_difference": summary(difference),
        "difference_by_k": {"1": summary(difference), "2": summary(-difference)},
        "verdict": "unresolved",
        "tokens_ratio": summary(1.1),
    }
    return {
        "name": name,
        "role": "budget",
        "elastic": {},
        "micro_batch_size": 12,
        "recompute": "none",
        "mean_k": 3,
        "kl_per_layer": None,
        "predicted": {"peak_allocated_bytes": law, "saving": {"mean": saving, "p99": saving}},
        "measured": {
            "mean_k": 3,
            "peak_allocated_bytes": law | {"saving": savings},
            "peak_reserved_bytes": {"default": law | {"saving": savings}},
        },
        "quality": quality if trained else None,
        "timing": {"step_seconds": {"mean": 0.1, "p99": 0.2}, "tokens_per_second": 100, "speed_ratio": summary(1.2)},
    }


def study():
    marginal = {"1": 0.25, "2": 0.75}
    return {
        "question": "does it save?",
        "margin": 0.02,
        "seeds": [1, 2],
        "depths": [
            {
                "num_layers": 4,
                "steps": 10,
                "tokens": 100,
                "arms": [
                    arm("unconstrained", 200 * 2**20, 0, 0),
                    arm("bounded", 150 * 2**20, 0.25, 0.125),
                    arm("full_unconstrained", 100 * 2**20, 0.5, 0, trained=False),
                    arm("full_at_most_strong", 98 * 2**20, 0.51, 0, trained=False),
                ],
                "naive": [
                    {"arm": "bounded", "method": "clip", "mean_k": 1.75, "marginals": [marginal] * 2,
                     "kl_by_layer": [0.1, 0.3]}
                ],
            }
        ],
    }


def test_rows_hold_the_figures_of_the_study(tmp_path):
    rows = budget_study.rows_of(study())
    experiment.write_csv(rows, budget_study.COLUMNS, tmp_path / "study.csv")
    with (tmp_path / "study.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["arm"] for row in read] == ["unconstrained", "bounded", "full_unconstrained", "full_at_most_strong"]
    bounded = read[1]
    assert float(bounded["peak_p99_mib"]) == 150
    assert float(bounded["saving_p99"]) == 0.25
    assert float(bounded["difference"]) == 0.125
    assert float(bounded["speed_ratio"]) == 1.2
    assert bounded["expandable_p99_mib"] == ""  # was not replayed
    assert read[2]["verdict"] == ""


def test_the_page_keeps_what_stands_above_its_results(tmp_path, monkeypatch):
    (tmp_path / "in.json").write_text(json.dumps(study()))
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nDesign.\n\n## Results\n\nold\n")
    monkeypatch.setattr("sys.argv", ["x", "--study", str(tmp_path / "in.json"), "--out", str(tmp_path / "page")])
    budget_study.main()
    text = page.read_text()
    assert text.startswith("# Title\n\nDesign.\n\n## Results\n\n### 4 MoE layers, 10 steps, 2 seeds")
    assert "old" not in text
    assert "the strong bound saves 2.0% of the p99 peak (100.0 to 98.0 MiB)" in text
    assert "| bounded | +0.125 ± 0.500 | -0.125 ± 0.500 |" in text
    assert "| bounded | clip | 1.75 | 1.75 | 1.75 | 0.300 |" in text
    assert "0.5000 nats (median" in text
    assert (tmp_path / "page.png").stat().st_size > 10000


COMMITTED = {"budget_study": ("budget", "## Results"), "budget_saving": ("budget_saving", "## Results of the second study")}


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_page_follows_from_the_committed_study(name, tmp_path):
    committed = json.loads((FOLDER / f"{name}.json").read_text())
    rows = budget_study.rows_of(committed)
    _, page, _ = experiment.section((FOLDER / "budget_study.md").read_text(), COMMITTED[name][1])
    assert page.strip() == "\n".join(budget_study.results(committed, rows)).strip()
    experiment.write_csv(rows, budget_study.COLUMNS, tmp_path / "study.csv")
    assert (tmp_path / "study.csv").read_text() == (FOLDER / f"{name}.csv").read_text()


@pytest.mark.parametrize("name", COMMITTED)
def test_the_study_ran_as_it_was_designed(name):
    committed = json.loads((FOLDER / f"{name}.json").read_text())
    studies = FOLDER.parent / "profiles" / "presets" / "studies"
    design = json.loads((studies / f"{COMMITTED[name][0]}.json").read_text())
    assert committed["margin"] == design["margin"] and committed["seeds"] == design["seeds"]
    assert [depth["num_layers"] for depth in committed["depths"]] == design["depths"]
    for depth in committed["depths"]:
        assert [arm["name"] for arm in depth["arms"]] == [arm["name"] for arm in design["arms"]]
        for arm in depth["arms"]:
            assert arm["measured"]["peak_allocated_bytes"]["saving"]["p99"]["count"] == len(design["seeds"])
