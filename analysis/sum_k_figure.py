"""The sum of k_l over a group of layers: its exact law with and without the budget, and what training drew."""

import collections

from drawing import BUDGETED, FREE, MEASURED, panels, whole_numbers
from load import Missing, figure_main

TITLE = "Active experts of a micro-batch"
MAX_PANELS = 4


def compute(run):
    (budget,) = run.need("budget")
    laws = budget.at("sum_k")
    groups = len(laws["without"])
    layers = budget.find("budget.groups")
    if layers is None:
        layers = (run.job.find("elastic.budget.groups") if run.job else None) or []
    return {
        "with": laws["with"],
        "without": laws["without"],
        "observed": observed_sums(run.metrics, layers, groups),
        "bound": bound_of(budget, run.job, groups),
    }


def bound_of(budget, job, groups):
    """The budget's bound of each group, or None."""
    bound = budget.find("budget.sum_k")
    if bound is None and job is not None:
        bound = job.find("elastic.budget.sum_k")
    if bound is None:
        return [None] * groups
    return bound if isinstance(bound, list) else [bound] * groups


def observed_sums(metrics, layers, groups):
    """For each group, {sum: share of the micro-batches}; None when they cannot be told apart."""
    if not metrics or (groups > 1 and len(layers) != groups):
        return None
    counts = [collections.Counter() for _ in range(groups)]
    for record in metrics:
        for draw_of_layers in record.at("k_per_layer"):
            begin = 0
            for group in range(groups):
                end = begin + layers[group] if groups > 1 else len(draw_of_layers)
                counts[group][sum(draw_of_layers[begin:end])] += 1
                begin = end
    return [{value: count / sum(counter.values()) for value, count in counter.items()} for counter in counts]


def draw(data):
    groups = min(MAX_PANELS, len(data["without"]))
    if groups == 0:
        raise Missing("budget.json holds no law of the sum of k; mmoe budget --json writes it")
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
        for law, color, style, name in (
            (data["without"], FREE, "s--", "exact law without budget"),
            (data["with"], BUDGETED, "o-", "exact law with the budget"),
        ):
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
    text = f"Mean of the sum: {mean(data['without'][0]):.2f} without budget, {mean(data['with'][0]):.2f} with it"
    if data["observed"]:
        text += f", {mean(data['observed'][0].items()):.2f} drawn in training"
    shown = len(data["without"])
    return text + (f" (first of {shown} groups)." if shown > 1 else ".")


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
