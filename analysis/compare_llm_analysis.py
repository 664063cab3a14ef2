"""Layouts evaluated a second: mmoe's search beside llm-analysis, on this machine, in turns.

Needs llm-analysis 0.2.2 from PyPI in the Python that runs this (pip install llm-analysis==0.2.2), and mmoe-plan-bench.

  python3 analysis/compare_llm_analysis.py --bench build/bin/mmoe-plan-bench
"""

import argparse
import itertools
import json
import logging
import subprocess
import time


def llm_analysis_rate() -> float:
    """Evaluations a second of LLMAnalysis(...).training(...) over layouts of GPT-3 175B, its own example."""
    from llm_analysis.analysis import LLMAnalysis
    from llm_analysis.config import ParallelismConfig, get_dtype_config_by_name, get_gpu_config_by_name, get_model_config_by_name

    logging.disable(logging.CRITICAL)
    model = get_model_config_by_name("megatron-lm-175b")
    gpu, dtype = get_gpu_config_by_name("a100-sxm-80gb"), get_dtype_config_by_name("w16a16e16")
    layouts = list(itertools.product((1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4)))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 3:
        for tensor, pipeline, batch in layouts:
            parallelism = ParallelismConfig(tp_size=tensor, pp_size=pipeline, dp_size=8)
            analysis = LLMAnalysis(model, gpu, dtype, parallelism, flops_efficiency=0.5, hbm_memory_efficiency=0.6)
            try:
                analysis.training(batch_size_per_gpu=batch, gradient_accumulation_steps=8, seq_len=2048, total_num_tokens=300e9)
            except (AssertionError, ValueError):
                pass
            count += 1
    return count / (time.perf_counter() - start)


def mmoe_rate(bench: str) -> float:
    """Layouts a second on one thread, from mmoe-plan-bench."""
    filter_ = "--benchmark_filter=gpus:2048/threads:1/limit:0"
    run = subprocess.run([bench, filter_, "--benchmark_format=json"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)["benchmarks"][0]["layouts_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bin/mmoe-plan-bench")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    for turn in range(arguments.turns):
        other, ours = llm_analysis_rate(), mmoe_rate(arguments.bench)
        print(f"turn {turn + 1}: llm-analysis {other:,.0f} layouts/s, mmoe {ours:,.0f} layouts/s, ratio {ours / other:,.0f}")


if __name__ == "__main__":
    main()
