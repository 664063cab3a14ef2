"""Where an activation budget saves 10 % of a 20 B model's memory on 64 to 1,024 GPUs, where it cannot, and what it costs.

Calls `mmoe budget --saving 0.1` for pipeline sizes, micro-batches and recomputation choices. Predictions only.

  python3 analysis/budget_at_scale.py --mmoe build/bin/mmoe --out analysis/budget_at_scale
"""

import argparse
import collections
import itertools
import json
import pathlib
import statistics
import subprocess
import tempfile

from drawing import panels
from experiment import write_csv

GIB = 2**30
SAVING, CONFIDENCE, STEPS = 0.1, 0.99, 10_000
GPUS = {64: 1024, 256: 2048, 1024: 4096}  # and the global batch, in sequences
PIPELINES, MICRO_BATCHES = (1, 2, 4, 8), (1, 2, 4, 8)
RECOMPUTE = {"none": "none", "expert activation": ["moe_activation"], "experts": ["moe"], "full": "full"}
COLUMNS = (
    "gpus pipeline micro_batch recompute fits peak_gib k_dependent_fraction outcome kind saving_p99 saving_mean saving_k_max "
    "kl_nats kl_nats_per_layer mean_k expected_flops_fraction tokens_per_second_gain bubble_change_fraction use use_gain"
).split()


def job(gpus, pipeline, micro_batch, recompute):
    return {
        "model": "m-moe-20b",
        "hardware": {"cluster": "dgx-h100", "num_devices": gpus},
        "parallelism": {"pipeline": pipeline, "expert": 8, "zero_stage": 1},
        "training": {
            "framework": "megatron_core",
            "seq_len": 4096,
            "micro_batch_size": micro_batch,
            "global_batch_size": GPUS[gpus],
            "precision": "bf16",
            "recompute": RECOMPUTE[recompute],
        },
        "elastic": {"k_min": 1, "k_max": 6},
    }


def mmoe(program, words):
    return subprocess.run([program, *map(str, words), "--json"], capture_output=True, text=True, check=False)


def evaluate(program, folder, point):
    """One row of the table, or None where the layout is impossible (fewer sequences than replicas)."""
    path = pathlib.Path(folder) / "job.json"
    path.write_text(json.dumps(job(*point)))
    result = mmoe(program, ["budget", "--job", path, "--saving", SAVING, "--confidence", CONFIDENCE, "--steps", STEPS])
    if result.returncode not in (0, 3):
        return None
    plan = json.loads(result.stdout)
    free = plan["without"]
    share = plan["k_dependent_fraction"]
    row = dict(zip(COLUMNS, point))
    fits = mmoe(program, ["simulate", "--job", path]).returncode == 0
    row |= {"fits": fits, "peak_gib": free["peak_allocated_bytes"] / GIB, "k_dependent_fraction": share}
    if plan["budget"] is None:
        return row | {"outcome": "too little depends on k" if share < SAVING else "only practically impossible draws"}
    speed, free_speed = plan["throughput"], free["throughput"]
    mean_step = free_speed["step_seconds"]["mean"]
    row |= {
        "outcome": "holds",
        "kind": plan["budget"]["kind"],
        **{f"saving_{name}": plan["saving_fraction"][name] for name in ("p99", "mean", "k_max")},
        "kl_nats": plan["kl_divergence"]["all"],
        "kl_nats_per_layer": plan["kl_divergence"]["all"] / 56,
        "mean_k": plan["mean_k"]["with"],
        "expected_flops_fraction": plan["expected_flops_fraction"],
        "tokens_per_second_gain": speed["tokens_per_second_per_device"] / free_speed["tokens_per_second_per_device"] - 1,
        "bubble_change_fraction": (speed["uneven_k_seconds"] - free_speed["uneven_k_seconds"]) / mean_step,
    }
    if plan["uses_of_freed_memory"]:
        best = plan["uses_of_freed_memory"][0]
        row |= {"use": best["change"], "use_gain": best["gain_fraction"]}
    return row


def text_of(values, form):
    values = sorted(values)
    if not values:
        return "-"
    if len(values) == 1:
        return form.format(values[0])
    return f"{form.format(statistics.median(values))} ({form.format(values[0])} to {form.format(values[-1])})"


def table(rows):
    """Markdown: layouts that fit without a budget, by recomputation and pipeline, all GPU counts together."""
    lines = [
        "| recomputed | pipeline | layouts that fit | share of the peak that depends on k | 10 % holds "
        "| saving against the mean peak | against k_max | KL, nats a layer | mean k (of 3.5) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups = collections.defaultdict(list)
    for row in rows:
        if row["fits"]:
            groups[row["recompute"], row["pipeline"]].append(row)
    order = list(RECOMPUTE)
    for (recompute, pipeline), group in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        held = [row for row in group if row["outcome"] == "holds"]
        cells = [
            recompute,
            str(pipeline),
            str(len(group)),
            text_of([100 * row["k_dependent_fraction"] for row in group], "{:.1f} %"),
            str(len(held)),
            text_of([100 * row["saving_mean"] for row in held], "{:.1f} %"),
            text_of([100 * row["saving_k_max"] for row in held], "{:.1f} %"),
            text_of([row["kl_nats_per_layer"] for row in held], "{:.3f}"),
            text_of([row["mean_k"] for row in held], "{:.2f}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figure(rows, path):
    """Every layout that fits: what a 10 % saving costs in mean k, over the share of the peak that depends on k."""
    drawing, (shares, costs) = panels(2, width=11, height=4)
    colours = dict(zip(RECOMPUTE, ("#0072B2", "#009E73", "#E69F00", "#D55E00")))
    markers = dict(zip(PIPELINES, "os^D"))
    for row in rows:
        if not row["fits"]:
            continue
        colour, marker = colours[row["recompute"]], markers[row["pipeline"]]
        shares.plot(row["peak_gib"], 100 * row["k_dependent_fraction"], marker, color=colour, alpha=0.7)
        if row["outcome"] == "holds":
            costs.plot(100 * row["k_dependent_fraction"], row["mean_k"], marker, color=colour, alpha=0.7)
    shares.axhline(100 * SAVING, color="#222222", linewidth=1, linestyle="--")
    shares.set(xlabel="peak without a budget, GiB", ylabel="share of it that depends on k, %")
    shares.set_title("Below 10 % no budget can save 10 %")
    costs.axhline(3.5, color="#222222", linewidth=1, linestyle="--")
    costs.set(xlabel="share of the peak that depends on k, %", ylabel="mean k under the budget")
    costs.set_title("What a saving of 10 % costs")
    for name, colour in colours.items():
        costs.plot([], [], "o", color=colour, label=f"recomputed: {name}")
    for pipeline, marker in markers.items():
        costs.plot([], [], marker, color="#888888", label=f"pipeline {pipeline}")
    costs.legend(loc="lower right")
    drawing.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmoe", required=True, help="the program, e.g. build/bin/mmoe")
    parser.add_argument("--out", required=True, help="prefix of the CSV, Markdown and PNG files")
    args = parser.parse_args()
    points = itertools.product(GPUS, PIPELINES, MICRO_BATCHES, RECOMPUTE)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for point in points if (row := evaluate(args.mmoe, folder, point)) is not None]
    write_csv(rows, COLUMNS, pathlib.Path(f"{args.out}.csv"))
    pathlib.Path(f"{args.out}.md").write_text(table(rows))
    figure(rows, f"{args.out}.png")


if __name__ == "__main__":
    main()
