"""Predicted peaks beside those that profiles of an H200 hold: two models in bf16 and ten probes of other shapes."""

import gzip
import json

import pytest
from cli_test import ROOT, run

PROFILES = sorted((ROOT / "profiles" / "measured" / "h200-sxm-141gb").glob("*.json.gz"))

# The caching allocator splits a cached block only where more than 1 MiB would be left over, and counts all of it.
BLOCK_REMAINDER = 2**20


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name.split(".")[0])
def test_peaks_are_what_an_h200_allocated(path, tmp_path):
    profile = json.loads(gzip.decompress(path.read_bytes()))
    compared = 0
    for step in profile["steps"]:
        ks = {k for micro_batch in step["k_per_layer"] for k in micro_batch}
        if len(ks) > 1:
            continue  # a job file gives one range of k for all layers
        job = {**profile["jobs"][step["job"]], "elastic": {"k_min": min(ks), "k_max": min(ks)}, "loop": {}}
        (tmp_path / "job.json").write_text(json.dumps(job))
        result = run("simulate", "--job", str(tmp_path / "job.json"), "--json")
        assert result.returncode == 0, result.stderr
        predicted = json.loads(result.stdout)["memory"]["peak_allocated_bytes"]
        assert abs(predicted - step["peak_allocated_bytes"]) <= BLOCK_REMAINDER, (step["job"], ks)
        compared += 1
    assert compared == 18
