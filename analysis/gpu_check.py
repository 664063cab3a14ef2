r"""What a GPU allocates and how long its steps take, beside what was predicted; whether it trains as the CPU does.

Trains each of RUNS with `mmoe train` (a run that is complete is not repeated), then writes a table of all. Predictions
are those of `mmoe validate --run`: every step after the warm-up for the k that it drew.

  python3 analysis/gpu_check.py --device h200-sxm-141gb --data build/demo/tokens --runs build/gpu_check \
      --out analysis/gpu_check
"""

import argparse
import json
import pathlib
import statistics
import sys

import experiment

MODEL = {"hidden_size": 1024, "num_layers": 8, "num_heads": 16, "vocab_size": 2048, "num_experts": 16,
         "expert_hidden_size": 1024}
WIDE = {
    "model": MODEL,
    "training": {"seq_len": 1024, "micro_batch_size": 32, "global_batch_size": 32, "precision": "bf16",
                 "tokens": 100_000_000, "learning_rate": 4e-4, "warmup_steps": 50, "checkpoint_interval": 100_000,
                 "seed": 7},
    "elastic": {"k_min": 1, "k_max": 6},
}
SMALL = {
    "model": {"hidden_size": 128, "num_layers": 4, "num_heads": 4, "vocab_size": 2048, "num_experts": 16,
              "expert_hidden_size": 64},
    "training": {"seq_len": 128, "micro_batch_size": 8, "global_batch_size": 16, "precision": "fp32",
                 "tokens": 2_457_600, "learning_rate": 3e-3, "warmup_steps": 60, "checkpoint_interval": 100_000,
                 "seed": 1},
    "elastic": {"k_min": 1, "k_max": 6, "budget": {"kind": "at_most", "sum_k": 16}},
}
READY = "olmoe-elastic-h100"
BOUND = {"elastic.budget.kind": "at_most", "elastic.budget.sum_k": 29}  # what mmoe budget --saving 0.1 gives
EXPANDABLE = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
RUNS = {  # job, changes, steps, environment
    "small, fp32": (SMALL, {}, 12, {}),
    "small, bf16": (SMALL, {"training.precision": "bf16"}, 12, {}),
    "small, fp32, on the CPU": (SMALL, {"hardware.device": "cpu"}, 12, {}),
    "small, bf16, on the CPU": (SMALL, {"hardware.device": "cpu", "training.precision": "bf16"}, 12, {}),
    "wide, unbudgeted": (WIDE, {}, 300, {}),
    "wide, sum of k at most 29": (WIDE, BOUND, 300, {}),
    "wide, unbudgeted, expandable segments": (WIDE, {}, 100, EXPANDABLE),
    "wide, at most 29, expandable segments": (WIDE, BOUND, 100, EXPANDABLE),
    "wide, fp32": (WIDE, {"training.precision": "fp32", "training.micro_batch_size": 8}, 8, {}),
    "wide, experts recomputed": (WIDE, {"training.recompute": "moe"}, 12, {}),
    "wide, attention recomputed": (WIDE, {"training.recompute": "attention"}, 12, {}),
    "wide, everything recomputed": (WIDE, {"training.recompute": "full"}, 12, {}),
    "wide, shared expert, dense layer, key norm": (
        WIDE,
        {"model.shared_expert_hidden_size": 1024, "model.num_dense_layers": 1, "model.dense_hidden_size": 4096,
         "model.qk_norm": "per_head", "model.num_kv_heads": 4},
        12,
        {},
    ),
    f"ready job {READY}": (READY, {"training.global_batch_size": 8, "training.checkpoint_interval": 100_000}, 8, {}),
}
PAIRS = {precision: (f"small, {precision}", f"small, {precision}, on the CPU") for precision in ("fp32", "bf16")}
COLUMNS = (
    "run steps compared_steps peak_allocated_bytes peak_error_percent peak_reserved_bytes step_seconds "
    "step_error_percent tokens_per_s last_loss"
).split()


def folder_name(run):
    return "".join(c if c.isalnum() else "_" for c in run)


def read_metrics(folder):
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(run, arguments):
    """Trains one of RUNS into its folder, unless it is there."""
    job, changes, steps, environment = RUNS[run]
    folder = arguments.runs / folder_name(run)
    if len(read_metrics(folder)) == steps:
        return
    path = job
    if job is not READY:
        path = arguments.runs / f"{folder_name(run)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(job))
    changes = {"hardware.device": arguments.device, **changes}
    flags = [word for key, value in changes.items() for word in (f"--{key}", value)]
    words = (arguments.mmoe, "train", "--job", path, "--data", arguments.data, "--out", folder, "--steps", steps)
    experiment.run(*words, *flags, progress=False, environment=environment)


def measured(run, arguments):
    """A row of COLUMNS."""
    folder = arguments.runs / folder_name(run)
    steps = read_metrics(folder)[1:]
    report = json.loads(experiment.run(arguments.mmoe, "validate", "--run", folder, "--json"))
    seconds = statistics.median(step["seconds"] for step in steps)
    peak, step_time = report["summary"]["peak_allocated_bytes"], report["summary"]["step_seconds"]
    return {
        "run": run,
        "steps": len(steps) + 1,
        "compared_steps": sum(row["quantity"] == "peak_allocated_bytes" for row in report["rows"]),
        "peak_allocated_bytes": max(step["peak_allocated_bytes"] for step in steps),
        "peak_error_percent": 100 * peak["mean_absolute_error_fraction"],
        "peak_reserved_bytes": max(step["peak_reserved_bytes"] for step in steps),
        "step_seconds": seconds,
        "step_error_percent": 100 * step_time["bias_fraction"],
        "tokens_per_s": statistics.median(step["tokens_per_second"] for step in steps),
        "last_loss": steps[-1]["loss"],
    }


def largest_loss_difference(pair, arguments):
    """Over the steps of two runs with the same draws of k."""
    one, other = (read_metrics(arguments.runs / folder_name(run)) for run in pair)
    assert [step["k_per_layer"] for step in one] == [step["k_per_layer"] for step in other], pair
    return max(abs(a["loss"] - b["loss"]) for a, b in zip(one, other, strict=True))


def page(rows, differences, device):
    gib = 2**30
    lines = [
        "# On a GPU",
        "",
        f"Written by `python3 analysis/gpu_check.py` on one {device}. Peaks: the largest of the steps after the first;",
        "errors: of the prediction for the k that each step drew, mean absolute for peaks, mean signed for times.",
        "",
        "| run | steps | peak allocated, GiB | error | peak reserved, GiB | step, ms | error | tokens/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["run"].endswith("on the CPU"):
            continue
        cells = (
            row["run"],
            row["steps"],
            f"{row['peak_allocated_bytes'] / gib:.3f}",
            f"{row['peak_error_percent']:.3f} %",
            f"{row['peak_reserved_bytes'] / gib:.3f}",
            f"{1e3 * row['step_seconds']:.1f}",
            f"{row['step_error_percent']:+.1f} %",
            f"{row['tokens_per_s']:,.0f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines.append("")
    by_run = {row["run"]: row for row in rows}
    for free, bound, kind in (
        ("wide, unbudgeted", "wide, sum of k at most 29", "the allocator's default"),
        ("wide, unbudgeted, expandable segments", "wide, at most 29, expandable segments", "expandable segments"),
    ):
        savings = [
            100 * (1 - by_run[bound][f"peak_{what}_bytes"] / by_run[free][f"peak_{what}_bytes"])
            for what in ("allocated", "reserved")
        ]
        lines.append(
            f"- With {kind}, the bound saves {savings[0]:.1f} % of the largest allocated and {savings[1]:.1f} % of the "
            f"reserved peak, at {by_run[bound]['tokens_per_s'] / by_run[free]['tokens_per_s']:.3f} times the tokens/s."
        )
    for precision, difference in differences.items():
        lines.append(f"- {precision}: losses on GPU and CPU differ by at most {difference:.1e} over 12 steps.")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmoe", default="build/bin/mmoe")
    parser.add_argument("--device", required=True, help="name of the device's file, as in hardware.device")
    parser.add_argument("--data", required=True, help="prefix of token files of at most 2048 pieces")
    parser.add_argument("--runs", type=pathlib.Path, required=True, help="folder of the run folders")
    parser.add_argument("--out", type=pathlib.Path, help="prefix of the .csv and .md; without it, train only")
    arguments = parser.parse_args()
    for run in RUNS:
        train(run, arguments)
        print(run, file=sys.stderr, flush=True)
    if not arguments.out:
        return
    rows = [measured(run, arguments) for run in RUNS]
    differences = {precision: largest_loss_difference(pair, arguments) for precision, pair in PAIRS.items()}
    experiment.write_csv(rows, COLUMNS, arguments.out.with_suffix(".csv"))
    arguments.out.with_suffix(".md").write_text(page(rows, differences, arguments.device))


if __name__ == "__main__":
    main()
