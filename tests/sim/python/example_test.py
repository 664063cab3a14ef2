"""The example notebook runs from top to bottom, and what it says holds."""

import json
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))
if not (BUILD / "python" / "mmoe").is_dir():
    pytest.skip("the module mmoe was not built (MMOE_PYTHON is off)", allow_module_level=True)
sys.path.insert(0, str(BUILD / "python"))


def test_the_notebook_runs(capsys):
    notebook = json.loads((ROOT / "sim" / "python" / "example.ipynb").read_text())
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # committed without results, which would grow stale
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5 + len(names["plan"]["candidates"])
    assert names["tuned"]["saving_fraction"]["p99"] >= 0.05
    assert names["largest"] <= sum(names["tuned"]["budget"]["sum_k"])
    assert sum(names["allocation"]["k_per_layer"]) <= 36
    seconds = [candidate["throughput"]["step_seconds"] for candidate in names["plan"]["candidates"]]
    assert len(seconds) == 3 and seconds == sorted(seconds)
