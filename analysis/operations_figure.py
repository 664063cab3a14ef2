"""Measured time and memory of each operation of a micro-batch, and how they grow with k."""

import collections

from drawing import AFTER, BEFORE, PHASES, byte_unit, bytes_text, panels, second_unit, seconds_text
from load import Missing, figure_main

TITLE = "Where time and memory go"


def compute(run):
    (profile,) = run.need("profile")
    records = [record for record in profile.at("operations") if record["job"] == 0]
    if not records:
        raise Missing("profile.json holds no operation of its first job; mmoe profile writes them")
    ks = sorted({record["k"] for record in records if record["k"] > 0})
    k = ks[-1] if ks else 0
    seconds, kept = collections.defaultdict(lambda: collections.defaultdict(float)), collections.defaultdict(float)
    for record in records:
        if record["k"] in (0, k):
            seconds[record["operation"]][record["phase"]] += record["seconds"]["median"]
            if record["phase"] == "forward":
                kept[record["operation"]] += record["kept_bytes"]
    return {
        "k": k,
        "seconds": {name: dict(phases) for name, phases in seconds.items()},
        "kept": dict(kept),
        "by_k": by_k(records, ks),
    }


def by_k(records, ks):
    """[(k, seconds, kept bytes)] of the operations that depend on k, over all layers and phases."""
    rows = []
    for k in ks:
        mine = [record for record in records if record["k"] == k]
        rows.append(
            (
                k,
                sum(record["seconds"]["median"] for record in mine),
                sum(record["kept_bytes"] for record in mine if record["phase"] == "forward"),
            )
        )
    return rows


def draw(data):
    figure, axes = panels(3 if data["by_k"] else 2, width=11, height=4.2)
    order = sorted(data["seconds"], key=lambda name: sum(data["seconds"][name].values()))
    labels = [name.replace("_", " ") for name in order]
    size, unit = second_unit(max(sum(phases.values()) for phases in data["seconds"].values()))
    begin = [0.0] * len(order)
    for phase, color in PHASES.items():
        widths = [data["seconds"][name].get(phase, 0) / size for name in order]
        if any(widths):
            axes[0].barh(labels, widths, left=begin, color=color, label=phase)
            begin = [left + width for left, width in zip(begin, widths)]
    at_k = f" at k = {data['k']}" if data["k"] else ""
    axes[0].set_xlabel(f"time of a micro-batch{at_k} ({unit})")
    axes[0].set_xlim(0, 1.05 * max(begin))
    axes[0].legend(loc="lower right")

    size, unit = byte_unit(max(1, *data["kept"].values()))
    axes[1].barh(labels, [data["kept"].get(name, 0) / size for name in order], color=AFTER)
    axes[1].set_xlabel(f"kept by the forward pass{at_k} ({unit})")
    axes[1].tick_params(labelleft=False)

    if data["by_k"]:
        ks = [k for k, _, _ in data["by_k"]]
        size, unit = second_unit(max(seconds for _, seconds, _ in data["by_k"]))
        time_line = axes[2].plot(
            ks, [seconds / size for _, seconds, _ in data["by_k"]], "o-", color=BEFORE, label="time"
        )
        axes[2].set_xlabel("k, in every layer")
        axes[2].set_ylabel(f"time of router and experts ({unit})")
        axes[2].set_ylim(bottom=0)
        axes[2].set_xticks(ks)
        size, unit = byte_unit(max(1, *(kept for _, _, kept in data["by_k"])))
        memory = axes[2].twinx()
        memory.spines.right.set_visible(True)
        memory.grid(False)
        memory_line = memory.plot(ks, [kept / size for _, _, kept in data["by_k"]], "s--", color=AFTER, label="memory")
        memory.set_ylim(bottom=0)
        memory.set_ylabel(f"kept by them ({unit})")
        axes[2].legend(handles=time_line + memory_line, loc="upper left")
    return figure


def caption(data):
    totals = {name: sum(phases.values()) for name, phases in data["seconds"].items()}
    slowest = max(totals, key=totals.get)
    largest = max(data["kept"], key=data["kept"].get)
    text = (
        f"Slowest: {slowest.replace('_', ' ')}, {seconds_text(totals[slowest])} of "
        f"{seconds_text(sum(totals.values()))}. Most memory kept for the backward pass: {largest.replace('_', ' ')}, "
        f"{bytes_text(data['kept'][largest])}."
    )
    if len(data["by_k"]) > 1:
        (first, first_seconds, _), (last, last_seconds, _) = data["by_k"][0], data["by_k"][-1]
        text += (
            f" Router and experts take {seconds_text(first_seconds)} at k = {first} and "
            f"{seconds_text(last_seconds)} at k = {last}."
        )
    return text


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
