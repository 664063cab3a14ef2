"""What an activation budget saved and cost against everything else that saves memory, from `mmoe study budget`.

Writes OUT.csv (every arm at every depth), OUT.png, and the part of a page (OUT.md) under a heading ("## Results").

  python3 analysis/budget_study.py --study analysis/budget_study.json --out analysis/budget_study
"""

import argparse
import json
import pathlib

from drawing import plt
from experiment import write_csv, write_section

MIB = 2**20
COLORS = {"baseline": "#222222", "budget": "#0072B2", "only fewer": "#E69F00", "specialist": "#CC79A7",
          "equal peak": "#009E73", "memory only": "#999999", "what is kept": "#009E73"}
COLUMNS = (
    "num_layers arm role mean_k kl_per_layer micro_batch_size recompute peak_mean_mib peak_p99_mib peak_max_mib "
    "saving_mean saving_p99 saving_max predicted_saving_mean predicted_saving_p99 reserved_p99_mib reserved_saving_p99 "
    "expandable_p99_mib expandable_saving_p99 worst_k_loss difference difference_low difference_high upper_bound verdict "
    "tokens_ratio speed_ratio speed_low speed_high step_mean_ms step_p99_ms tokens_per_second"
).split()


def rows_of(study):
    """One flat row an arm and depth; missing figures are None."""
    rows = []
    for depth in study["depths"]:
        for arm in depth["arms"]:
            measured, predicted = arm["measured"], arm.get("predicted", {})
            quality, timing = arm["quality"] or {}, arm["timing"] or {}
            peak = measured["peak_allocated_bytes"]
            reserved = measured.get("peak_reserved_bytes", {})
            difference, ratio = quality.get("worst_k_difference", {}), timing.get("speed_ratio", {})
            step = timing.get("step_seconds")
            row = {
                "num_layers": depth["num_layers"],
                "arm": arm["name"],
                "role": arm["role"],
                "mean_k": measured["mean_k"],
                "kl_per_layer": arm["kl_per_layer"],
                "micro_batch_size": arm["micro_batch_size"],
                "recompute": arm["recompute"] if isinstance(arm["recompute"], str) else "+".join(arm["recompute"]),
                "worst_k_loss": quality.get("worst_k_loss"),
                "difference": difference.get("mean"),
                "difference_low": difference.get("low"),
                "difference_high": difference.get("high"),
                "upper_bound": difference.get("upper_bound"),
                "verdict": quality.get("verdict"),
                "tokens_ratio": quality.get("tokens_ratio", {}).get("mean"),
                "speed_ratio": ratio.get("mean"),
                "speed_low": ratio.get("low"),
                "speed_high": ratio.get("high"),
                "step_mean_ms": step and 1e3 * step["mean"],
                "step_p99_ms": step and 1e3 * step["p99"],
                "tokens_per_second": timing.get("tokens_per_second"),
            }
            for of in ("mean", "p99", "max"):
                row[f"peak_{of}_mib"] = peak[of] / MIB
                row[f"saving_{of}"] = peak["saving"][of]["mean"]
            for of in ("mean", "p99"):
                row[f"predicted_saving_{of}"] = predicted.get("saving", {}).get(of)
            for kind, name in (("default", "reserved"), ("expandable_segments", "expandable")):
                if kind in reserved:
                    row[f"{name}_p99_mib"] = reserved[kind]["p99"] / MIB
                    row[f"{name}_saving_p99"] = reserved[kind]["saving"]["p99"]["mean"]
            rows.append({column: row.get(column) for column in COLUMNS})
    return rows


def draw(study, rows, path):
    depths = [depth["num_layers"] for depth in study["depths"]]
    figure, axes = plt.subplots(2, len(depths), figsize=(5.2 * len(depths), 7.2), squeeze=False)
    for column, depth in enumerate(depths):
        quality, speed = axes[0][column], axes[1][column]
        baseline = next(row for row in rows if row["num_layers"] == depth)
        for row in rows:
            if row["num_layers"] != depth:
                continue
            color = COLORS.get(row["role"], "#222222")
            label = row["arm"].replace("_", " ")
            if row["difference"] is not None and row is not baseline:
                half = (row["difference_high"] or 0) - row["difference"]
                quality.errorbar(100 * row["saving_p99"], row["difference"], half, fmt="o", color=color, capsize=2)
                quality.annotate(label, (100 * row["saving_p99"], row["difference"]), xytext=(4, 4),
                                 textcoords="offset points", fontsize=7)
            if row["speed_ratio"] is not None and row["difference"] is not None:
                half = (row["speed_high"] or row["speed_ratio"]) - row["speed_ratio"]
                speed.errorbar(row["peak_p99_mib"], row["speed_ratio"], half, fmt="o", color=color, capsize=2)
                speed.annotate(label, (row["peak_p99_mib"], row["speed_ratio"]), xytext=(4, 4),
                               textcoords="offset points", fontsize=7)
        quality.axhline(study["margin"], color="#D55E00", linewidth=1)
        quality.axhline(0, color="#222222", linewidth=0.8)
        quality.set(title=f"{depth} MoE layers", xlabel="saving of the p99 peak, %",
                    ylabel="worst-k loss, arm less unconstrained, nats")
        speed.set(xlabel="p99 peak allocated, MiB", ylabel="tokens/s over unconstrained")
    figure.savefig(path, dpi=110)


def number(value, form):
    return "-" if value is None else format(value, form)


def table(rows):
    """The arms of one depth as Markdown."""
    lines = [
        "| arm | k | KL/layer | micro-batch | p99 peak, MiB | saving p99 (predicted) | mean (predicted) "
        "| reserved p99, replayed: default, expandable | worst-k loss | difference [95 %] | verdict | tokens to equal loss "
        "| tokens/s ratio | step p99, ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        interval = (
            f"{row['difference']:+.4f} [{number(row['difference_low'], '+.4f')}, {number(row['difference_high'], '+.4f')}]"
            if row["difference"] is not None
            else "-"
        )
        lines.append(
            f"| {row['arm'].replace('_', ' ')} | {row['mean_k']:.2f} | {number(row['kl_per_layer'], '.3f')} "
            f"| {row['micro_batch_size']}{'' if row['recompute'] == 'none' else ', ' + row['recompute']} "
            f"| {row['peak_p99_mib']:.1f} | {row['saving_p99']:.1%} ({number(row['predicted_saving_p99'], '.1%')}) "
            f"| {row['saving_mean']:.1%} ({number(row['predicted_saving_mean'], '.1%')}) "
            f"| {number(row['reserved_saving_p99'], '.1%')}, {number(row['expandable_saving_p99'], '.1%')} "
            f"| {number(row['worst_k_loss'], '.4f')} | {interval} | {row['verdict'] or '-'} "
            f"| {number(row['tokens_ratio'], '.2f')} | {number(row['speed_ratio'], '.3f')} "
            f"| {number(row['step_p99_ms'], '.1f')} |"
        )
    return lines


def naive_table(depth):
    """Marginals of what clipping and rescaling would draw under the same bound, in the first and the last layer."""
    lines = [
        "| bound of | method | mean k | mean k, first layer | mean k, last layer | largest KL of a layer |",
        "|---|---|---|---|---|---|",
    ]
    for entry in depth["naive"]:
        means = [sum(int(k) * p for k, p in marginal.items()) for marginal in entry["marginals"]]
        lines.append(
            f"| {entry['arm'].replace('_', ' ')} | {entry['method']} | {entry['mean_k']:.2f} | {means[0]:.2f} "
            f"| {means[-1]:.2f} | {max(entry['kl_by_layer']):.3f} |"
        )
    return lines


def by_k_table(depth):
    """Loss of each arm less that of the baseline, at every k, with half its 95 % interval."""
    ks = sorted(depth["arms"][0]["quality"]["difference_by_k"], key=int)
    lines = ["| arm | " + " | ".join(f"k = {k}" for k in ks) + " |", "|---" * (len(ks) + 1) + "|"]
    for arm in depth["arms"][1:]:
        if not arm["quality"]:
            continue
        cells = []
        for k in ks:
            difference = arm["quality"]["difference_by_k"][k]
            half = (difference["high"] - difference["mean"]) if difference["high"] is not None else float("inf")
            cells.append(f"{difference['mean']:+.3f} ± {half:.3f}")
        lines.append(f"| {arm['name'].replace('_', ' ')} | " + " | ".join(cells) + " |")
    return lines


def power_line(depth):
    """The smallest differences that the seeds could show."""
    resolvable = [
        arm["quality"]["worst_k_difference"]["smallest_resolvable"] for arm in depth["arms"][1:] if arm["quality"]
    ]
    if not resolvable or None in resolvable:
        return "One seed: nothing can be resolved."
    resolvable = [least for least in resolvable if least > 0]  # the others' losses are those of the baseline, bit for bit
    if not resolvable:
        return "The difference of every arm is exactly 0 with every seed."
    resolvable.sort()
    return (
        f"Power: with these seeds a true difference of {resolvable[len(resolvable) // 2]:.4f} nats (median over the arms; "
        f"{resolvable[0]:.4f} to {resolvable[-1]:.4f}) would be found with a probability of 80 %."
    )


def full_recompute_line(rows):
    """What the strong bound saves where everything is recomputed."""
    by_arm = {row["arm"]: row for row in rows}
    if "full_unconstrained" not in by_arm:
        return []
    free, bounded = by_arm["full_unconstrained"], by_arm["full_at_most_strong"]
    saving = 1 - bounded["peak_p99_mib"] / free["peak_p99_mib"]
    return [
        f"Under full recomputation, at the baseline's micro-batch, the strong bound saves {saving:.1%} of the p99 peak "
        f"({free['peak_p99_mib']:.1f} to {bounded['peak_p99_mib']:.1f} MiB)."
    ]


def results(study, rows):
    """The Markdown below "## Results"."""
    lines = []
    for depth in study["depths"]:
        here = [row for row in rows if row["num_layers"] == depth["num_layers"]]
        lines += [f"### {depth['num_layers']} MoE layers, {depth['steps']} steps, {len(study['seeds'])} seeds", ""]
        lines += table(here) + ["", power_line(depth)] + full_recompute_line(here)
        lines += ["", "Loss less that of the unconstrained arm at each k, nats a token, ± half its 95 % interval:", ""]
        lines += by_k_table(depth) + [""]
        if depth["naive"]:
            lines += ["The same bounds kept by cutting draws instead of conditioning them (exact laws):", ""]
            lines += naive_table(depth) + [""]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--study", type=pathlib.Path, required=True, help="study.json of `mmoe study budget`")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="prefix of what is written")
    parser.add_argument("--page", type=pathlib.Path, help="page that gets the tables; OUT.md if left out")
    parser.add_argument("--heading", default="## Results", help="of the page's section that is replaced")
    arguments = parser.parse_args()
    study = json.loads(arguments.study.read_text())
    rows = rows_of(study)
    write_csv(rows, COLUMNS, arguments.out.with_suffix(".csv"))
    draw(study, rows, arguments.out.with_suffix(".png"))
    page = arguments.page or arguments.out.with_suffix(".md")
    write_section(page, arguments.heading, results(study, rows))
    print(f"{page}: {len(rows)} arms")


if __name__ == "__main__":
    main()
