"""The Python module's Sampler draws what `mmoe train` drew."""

import json
import os
import pathlib
import sys

import pytest
from train_program import NEEDS_PROGRAM, ROOT, STEPS, done, metrics, train_words, write_job

BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))
if not (BUILD / "python" / "mmoe").is_dir():
    pytest.skip("the module mmoe was not built (MMOE_PYTHON is off)", allow_module_level=True)
sys.path.insert(0, str(BUILD / "python"))
import mmoe  # noqa: E402

pytestmark = NEEDS_PROGRAM


@pytest.mark.parametrize(
    "elastic",
    [
        {"budget": {"kind": "at_most", "sum_k": 9}},
        {"budget": {"kind": "exact", "sum_k": 11}, "granularity": "layer"},
        {"sampling": "capacity_weighted", "tau": 1.5},
        {"granularity": "micro_batch"},
    ],
    ids=["at_most", "exact", "capacity_weighted", "micro_batch"],
)
def test_every_draw_of_a_run(elastic, data, tmp_path):
    path = write_job(tmp_path / "job.json")
    job = json.loads(path.read_text())
    job["elastic"] = {"k_min": 1, "k_max": 6, **elastic}
    path.write_text(json.dumps(job))
    done(*train_words(path, data, tmp_path / "run"))
    sampler = mmoe.Sampler(job)
    drawn = [line["k_per_layer"] for line in metrics(tmp_path / "run")]
    assert drawn == [sampler.draw(step).tolist() for step in range(1, STEPS + 1)]
    assert len({json.dumps(k) for k in drawn}) > 1
