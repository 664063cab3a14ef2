"""analysis/compare_transformers.py: its statistics, its check of equal losses, and a whole run on a tiny model."""

import csv
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin"
pytest.importorskip("torch")
pytest.importorskip("transformers", reason="transformers is not installed")

import compare_transformers  # noqa: E402
import transformers_olmoe  # noqa: E402
from load import DataError  # noqa: E402


def test_interval_is_that_of_the_logarithms():
    mean, low, high = compare_transformers.interval([1.0, math.e**2])
    # Mean 1, standard error sqrt(2) / sqrt(2) = 1; Student's t of one degree of freedom is 12.706.
    assert math.log(mean) == pytest.approx(1)
    assert math.log(low) == pytest.approx(1 - 12.706) and math.log(high) == pytest.approx(1 + 12.706)
    assert compare_transformers.interval([2.0]) == (pytest.approx(2.0), None, None)


def test_elasticity_is_against_the_share_of_the_largest_k():
    rows = compare_transformers.elasticity(compare_transformers.QUICK, "fp32", {1: (0.2, 0), 6: (0.6, 0)})
    assert [row["against_share_of_k_max"] for row in rows] == [pytest.approx(2), pytest.approx(1)]


class FakeSide:
    def __init__(self, loss):
        self.loss = loss

    def run(self, *_, **__):
        step = {"loss": self.loss, "seconds": 1.0, "k_per_layer": [[2, 2]], "kept_bytes": 1}
        return [step, step]


def test_different_losses_are_refused():
    size = compare_transformers.QUICK
    for precision in compare_transformers.PRECISIONS:
        tolerance = compare_transformers.loss_tolerance(size, precision)
        point = compare_transformers.Point(size, precision, 2)
        compare_transformers.qualify(point, FakeSide(5.0), FakeSide(5.0 + 0.99 * tolerance))
        for wrong in (5.0 + 1.01 * tolerance, math.nan):
            with pytest.raises(DataError, match="do not train the same"):
                compare_transformers.qualify(point, FakeSide(5.0), FakeSide(wrong))


def test_another_libtorch_is_refused():
    ours = type("OurSide", (), {"libraries": {("08:01", "7")}})
    with pytest.raises(DataError, match="another LibTorch"):
        compare_transformers.check_libraries([ours])


def run(*words):
    program = [sys.executable, ROOT / "analysis" / "compare_transformers.py", "--threads", 1, *words]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return subprocess.run([str(word) for word in program], capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.skipif(not (BIN / "mmoe-train").exists(), reason="mmoe-train is not built")
def test_both_sides_train_the_same_and_all_is_reported(tmp_path):
    ended = run("--quick", "--programs", BIN, "--out", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    points = {(point["precision"], point["k"]): point for point in result["points"]}
    assert list(points) == [("fp32", 2), ("fp32", "drawn"), ("bf16", 2), ("bf16", "drawn")]
    for (precision, k), point in points.items():
        assert set(point["first_losses"]) == set(transformers_olmoe.VARIANTS[precision])
        for loss in point["first_losses"].values():
            assert abs(loss - point["ours_first_loss"]) <= point["loss_tolerance"]
        assert point["fastest"] == min(point["qualifying_seconds"], key=point["qualifying_seconds"].get)
        assert point["rounds"] == 2 and len(point["seconds"]) == 2
        for seconds in point["seconds"]:
            assert len(seconds["ours"]) == len(seconds["theirs"]) == (2 if k == "drawn" else 1)
        assert point["ratio_low"] <= point["ratio"] <= point["ratio_high"]
        assert point["theirs_kept_bytes"] > 0 and (k == "drawn" or point["ours_kept_bytes"] > 0)
    # The check of losses would see another k: at the draw they differ by more than it allows.
    fp32 = points["fp32", 2], points["fp32", "drawn"]
    assert abs(fp32[0]["ours_first_loss"] - fp32[1]["ours_first_loss"]) > 10 * fp32[0]["loss_tolerance"]
    assert {row["k"] for row in result["elasticity"]} == set(range(1, 7))
    with open(tmp_path / "out.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["precision"], row["k"]) for row in rows] == [(p, str(k)) for p, k in points]
    assert all(row.keys() == set(compare_transformers.COLUMNS) for row in rows)
    assert (tmp_path / "out.png").stat().st_size > 0
    assert "compare_transformers.py --quick" in (tmp_path / "out.md").read_text()


@pytest.mark.skipif(not (BIN / "mmoe-train").exists(), reason="mmoe-train is not built")
def test_one_precision_alone(tmp_path):
    ended = run("--quick", "--precision", "fp32", "--programs", BIN, "--out", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert {cell["precision"] for cell in result["points"] + result["elasticity"]} == {"fp32"}
    assert result["settings"]["command"].endswith("compare_transformers.py --precision fp32 --quick")


def test_missing_programs_are_one_line(tmp_path):
    ended = run("--quick", "--programs", tmp_path, "--out", tmp_path / "out")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("mmoe: error:") and "mmoe" in ended.stderr
