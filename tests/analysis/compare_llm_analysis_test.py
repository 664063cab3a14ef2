"""analysis/compare_llm_analysis.py reads the benchmark's own output."""

import json
import stat

import compare_llm_analysis


def test_rate_comes_from_the_benchmark(tmp_path):
    program = tmp_path / "bench"
    text = json.dumps({"benchmarks": [{"layouts_per_second": 2.5e6}]})
    program.write_text(f"#!/bin/sh\necho '{text}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert compare_llm_analysis.mmoe_rate(str(program)) == 2.5e6
