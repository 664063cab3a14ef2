"""The sum of k_l over a group of layers: its exact law with and without the budget, and what training drew."""

import collections

from drawing import BUDGETED, FREE, MEASURED, panels, whole_numbers
from load import Missing, figure_main

TITLE = "Active experts of a micro-batch"
MAX_PANELS = 4


def compute(run):
    (loop,) = run.need("loop")
    laws = loop.find("sum_k")
    if not laws:
        raise Missing("the job draws no k per layer (loop.json has no sum_k)")
    bound = loop.find("budget.sum_k")
    return {
        "with": laws["with"],
        "without": laws["without"],
        "observed": observed_sums(run.metrics, laws["groups"]),
        "bound": bound or [None] * len(laws["groups"]),
    }


def observed_sums(metrics, groups):
    """For each group of so many layers, {sum: share of the micro-batches}; None without metrics."""
    if not metrics:
        return None
    counts = [collections.Counter() for _ in groups]
    for record in metrics:
        for draw_of_layers in record.at("k_per_layer"):
            begin = 0
            for counter, layers in zip(counts, groups):
                counter[sum(draw_of_layers[begin : begin + layers])] += 1
                begin += layers
    return [{value: count / sum(counter.values()) for value, count in counter.items()} for counter in counts]


def draw(data):
    groups = min(MAX_PANELS, len(data["without"]))
    laws = [(data["without"], FREE, "s--", "exact law without budget")]
    if data["bound"][0] is not None:
        laws.append((data["with"], BUDGETED, "o-", "exact law with the budget"))
    figure, all_axes = panels(groups, width=4 + 4 * groups)
    for group, axes in enumerate(all_axes):
        if data["observed"]:
            sums = sorted(data["observed"][group].items())
            axes.bar(
                [value for value, _ in sums],
                [share for _, share in sums],
                width=0.9,
                color=MEASURED,
                alpha=0.25,
                label="drawn in training",
            )
        for law, color, style, name in laws:
            axes.plot(
                [value for value, _ in law[group]],
                [share for _, share in law[group]],
                style,
                color=color,
                markersize=4,
                label=name,
            )
        if data["bound"][group] is not None:
            axes.axvline(
                data["bound"][group] + 0.5, color=BUDGETED, linestyle=":", label=f"bound {data['bound'][group]}"
            )
        axes.set_ylim(bottom=0)
        whole_numbers(axes.xaxis)
        axes.set_xlabel(
            "sum of k over the layers" + (f" of group {group + 1}" if groups > 1 else "") + " in one micro-batch"
        )
        axes.set_ylabel("probability")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def mean(law):
    return sum(value * share for value, share in law)


def caption(data):
    means = [f"{mean(data['without'][0]):.2f} without budget"]
    if data["bound"][0] is not None:
        means.append(f"{mean(data['with'][0]):.2f} with it")
    if data["observed"]:
        means.append(f"{mean(data['observed'][0].items()):.2f} drawn in training")
    groups = len(data["without"])
    return f"Mean of the sum: {', '.join(means)}" + (f" (first of {groups} groups)." if groups > 1 else ".")


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
