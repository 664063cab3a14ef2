"""Peak memory of each training step, predicted against measured, before and after calibration."""

from drawing import AFTER, BEFORE, MEASURED, byte_unit, bytes_text, panels, percent_text, thinned
from load import figure_main

TITLE = "Peak memory of a step"


def law_of(plan):
    """The predicted law of one step's peak: {mean, std, p50, p99, max} in bytes."""
    return plan.at("elastic.peak_allocated_bytes")


def compute(run):
    plan, metrics = run.need("plan", "metrics")
    after_first = [record for record in metrics if record.at("step") > 1] or metrics
    measured = [record.at("peak_allocated_bytes") for record in after_first]
    return {
        "steps": [record.at("step") for record in after_first],
        "measured": measured,
        "before": law_of(plan),
        "after": law_of(run.plan_calibrated) if run.plan_calibrated else None,
    }


def median(values):
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def draw(data):
    size, unit = byte_unit(max(data["measured"]))
    figure, (by_step, spread) = panels(2, width=9, sharey=True, width_ratios=[3, 1])
    steps, measured = thinned(data["steps"], data["measured"])
    by_step.plot(
        steps, [value / size for value in measured], ".", color=MEASURED, markersize=3, label="measured, a point a step"
    )
    for key, color, name, width in (
        ("before", BEFORE, "before calibration", 3.5),
        ("after", AFTER, "after calibration", 1.5),
    ):
        law = data[key]
        if law is None:
            continue
        for quantile, style, meaning in (("max", "-", "worst draw"), ("p50", "--", "median")):
            by_step.axhline(
                law[quantile] / size,
                color=color,
                linestyle=style,
                linewidth=width,
                alpha=0.85,
                label=f"predicted {meaning}, {name}",
            )
    by_step.set_xlabel("step")
    by_step.set_ylabel(f"peak allocated ({unit})")
    by_step.margins(y=0.1)
    spread.hist(
        [value / size for value in data["measured"]], bins=30, orientation="horizontal", color=MEASURED, alpha=0.6
    )
    spread.set_xlabel("steps")
    figure.legend(*by_step.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def caption(data):
    worst = max(data["measured"])
    law = data["after"] or data["before"]
    when = "after" if data["after"] else "before"
    return (
        f"Largest measured peak from step 2 on: {bytes_text(worst)}; predicted {when} calibration for the worst draw "
        f"that the law allows: {bytes_text(law['max'])} ({percent_text(law['max'] / worst - 1)}). Median step: "
        f"measured {bytes_text(median(data['measured']))}, predicted {bytes_text(law['p50'])}."
    )


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
