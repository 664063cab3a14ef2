"""A run folder with every file that the page reads, as the programs write them, for tests of analysis/."""

import itertools
import json
import random

LAYERS, K_MIN, K_MAX, BOUND, STEPS, MICRO_BATCHES = 4, 1, 6, 16, 300, 2
MIB = 2**20


def law(bound=None):
    """[[sum, probability], ...] of LAYERS uniform draws, conditioned on sum <= bound; by enumeration."""
    sums = [sum(draw) for draw in itertools.product(range(K_MIN, K_MAX + 1), repeat=LAYERS)]
    kept = [value for value in sums if bound is None or value <= bound]
    return [[value, kept.count(value) / len(kept)] for value in sorted(set(kept))]


def plan(factor):
    """plan.json with bytes and seconds times `factor`."""
    peak = {"mean": 66 * MIB, "std": 4 * MIB, "p50": 66 * MIB, "p99": 73 * MIB, "max": 74 * MIB}
    return {
        "fits": True,
        "memory": {
            "peak_allocated_bytes": 74 * MIB * factor,
            "peak_reserved_bytes": 74 * MIB * factor,
            "stages": [
                {
                    "weights_bytes": 12 * MIB,
                    "gradients_bytes": 12 * MIB,
                    "optimizer_bytes": 24 * MIB,
                    "activations_bytes": 22 * MIB,
                    "buffers_bytes": 4 * MIB,
                    "peak_allocated_bytes": 74 * MIB * factor,
                }
            ],
        },
        "throughput": {
            "step_seconds": 0.42 * factor,
            "tokens_per_second_per_device": 4876.0,
            "model_flops_utilization": 0.31,
            "model_tflops_per_device": 0.05,
            "breakdown_seconds": {"experts": 0.2 * factor, "attention": 0.1 * factor, "overhead": 0.12 * factor},
        },
        "elastic": {
            "sum_k": {"mean": 12.6, "std": 2.4, "p50": 13, "p99": 16, "max": 16},
            "peak_allocated_bytes": {key: value * factor for key, value in peak.items()},
        },
        "intervals": {"step_seconds": [0.36 * factor, 0.48 * factor]},
    }


def metrics():
    random.seed(5)
    lines, loss = [], 7.6
    for step in range(1, STEPS + 1):
        draws = []
        while len(draws) < MICRO_BATCHES:
            draw = [random.randint(K_MIN, K_MAX) for _ in range(LAYERS)]
            if sum(draw) <= BOUND:
                draws.append(draw)
        loss += 0.012 * (3.6 - loss) + random.gauss(0, 0.03)
        lines.append(
            {
                "step": step,
                "tokens": step * 2048,
                "loss": loss,
                "k_per_layer": draws,
                "seconds": 0.31 + 0.005 * sum(map(sum, draws)) + random.expovariate(60) + (0.9 if step == 1 else 0),
                "tokens_per_second": 4800.0,
                "peak_allocated_bytes": 50 * MIB + 1.5 * MIB * max(map(sum, draws)),
                "peak_allocated_bytes_by_rank": [0],
                "learning_rate": 1e-3,
                "grad_norm": 1.0,
            }
        )
    return lines


def profile():
    operations = []
    for layer, (operation, cost, kept) in itertools.product(
        range(LAYERS), (("norm", 0.4, 0.5), ("qkv", 1.5, 1.5), ("attention", 2.5, 1.0), ("attention_output", 0.6, 0.5))
    ):
        operations += both_phases(operation, layer, 0, cost, kept)
    for layer, k in itertools.product(range(LAYERS), range(1, K_MAX + 1)):
        operations += both_phases("router", layer, k, 0.3, 0.2) + both_phases(
            "experts", layer, k, 0.5 + 1.5 * k, 1.5 * k
        )
    operations += both_phases("embedding", -1, 0, 0.2, 0.5) + both_phases("loss_head", -1, 0, 9.0, 16.0)
    operations.append(record("optimizer", "update", -1, 0, 6.0, 0))
    return {
        "schema_version": 1,
        "machine": {"device": "cpu", "processor": "Some CPU", "cores": 2, "threads": 2},
        "jobs": [{}],
        "peaks": {"stream_bandwidth_gb_per_s": 20.0, "matmul_gflop_per_s": {"fp32": 150.0}},
        "operations": operations,
        "steps": [],
    }


def record(operation, phase, layer, k, milliseconds, kept):
    return {
        "job": 0,
        "operation": operation,
        "phase": phase,
        "layer": layer,
        "k": k,
        "repetitions": 7,
        "seconds": {"median": milliseconds / 1e3, "p10": milliseconds / 1.1e3, "p90": milliseconds / 0.9e3},
        "kept_bytes": kept * MIB,
        "transient_bytes": MIB,
    }


def both_phases(operation, layer, k, milliseconds, kept):
    return [
        record(operation, "forward", layer, k, milliseconds, kept),
        record(operation, "backward", layer, k, 2 * milliseconds, -kept),
    ]


def beside(measured, before, after):
    return {
        "measured": measured,
        "predicted_before": before,
        "predicted_after": after,
        "error_fraction_before": before / measured - 1,
        "error_fraction_after": after / measured - 1,
    }


def allocation():
    return {
        "k_per_layer": [4, 2, 3, 3],
        "predicted_loss": 3.912,
        "verified_loss": 3.921,
        "uniform_loss": 3.934,
        "interval": [-0.021, -0.005],
        "cost": 1.0,
        "mean_k": 3,
    }


def files():
    """File name -> content of a complete run."""
    losses = {str(k): 4.2 - 0.12 * k + 0.008 * k * k for k in range(1, K_MAX + 1)}
    evaluation = {
        "split": "valid",
        "tokens": 65536,
        "loss_by_k": losses,
        "bits_per_byte_by_k": {k: 0.43 * loss for k, loss in losses.items()},
    }
    job = {
        "model": {
            "num_layers": LAYERS,
            "hidden_size": 128,
            "num_heads": 4,
            "num_experts": 16,
            "expert_hidden_size": 64,
            "vocab_size": 2048,
        },
        "hardware": {"device": "cpu", "num_devices": 1},
        "training": {
            "seq_len": 128,
            "micro_batch_size": 8,
            "global_batch_size": 16,
            "precision": "fp32",
            "recompute": "none",
            "tokens": 614400.0,
        },
        "elastic": {
            "k_min": K_MIN,
            "k_max": K_MAX,
            "granularity": "layer",
            "sampling": "uniform",
            "budget": {"kind": "at_most", "groups": [LAYERS], "sum_k": [BOUND]},
        },
    }
    return {
        "job.json": job,
        "plan.json": plan(1.09),
        "plan_calibrated.json": plan(1.003),
        "metrics.jsonl": metrics(),
        "profile.json": profile(),
        "calibration.json": {"schema_version": 1, "framework": "mmoe", "device": "cpu", "parameters": []},
        "eval.json": evaluation,
        "allocation.json": allocation(),
        "budget.json": {"budget": None, "budget_needed": False, "front": []},
        "loop.json": {
            "schema_version": 1,
            "peak_allocated_bytes": beside(74 * MIB, 80.7 * MIB, 74.2 * MIB),
            "median_step_peak_allocated_bytes": beside(66 * MIB, 71.9 * MIB, 66.2 * MIB),
            "step_seconds": beside(0.44, 0.458, 0.421),
            "evaluation": evaluation,
            "allocation": allocation(),
            "sum_k": {"groups": [LAYERS], "with": [law(BOUND)], "without": [law()]},
            "budget": {
                "kind": "at_most",
                "groups": [LAYERS],
                "sum_k": [BOUND],
                "saving_fraction": {"p99": 0.081, "mean": 0.02, "k_max": 0.14},
            },
            "text": {"unigram_entropy_bits_per_byte": 3.1, "bits_per_byte_of_nat": 0.43},
        },
    }


def write_run(folder, without=()):
    """Writes the run into `folder`, leaving out the files named in `without`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        if name in without:
            continue
        lines = [json.dumps(line) for line in content] if name.endswith(".jsonl") else [json.dumps(content)]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder
