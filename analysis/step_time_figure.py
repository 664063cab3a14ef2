"""Seconds of each training step, predicted against measured, before and after calibration."""

from drawing import AFTER, BEFORE, MEASURED, panels, percent_text, second_unit, seconds_text, thinned
from load import figure_main
from memory_figure import median

TITLE = "Time of a step"


def compute(run):
    plan, metrics = run.need("plan", "metrics")
    warm = metrics[min(10, (len(metrics) + 9) // 10) :] or metrics  # as loop.json's first_timed_step
    return {
        "steps": [record.at("step") for record in warm],
        "measured": [record.at("seconds") for record in warm],
        "before": plan.at("throughput.step_seconds"),
        "after": run.plan_calibrated.at("throughput.step_seconds") if run.plan_calibrated else None,
        "after_interval": run.plan_calibrated.find("intervals.step_seconds") if run.plan_calibrated else None,
    }


def draw(data):
    typical = median(data["measured"])
    size, unit = second_unit(typical)
    figure, (by_step, spread) = panels(2, width=9, sharey=True, width_ratios=[3, 1])
    # Stalls of the machine would squeeze everything else into a line: they are counted, not drawn to scale.
    top = 1.25 * max([min(quantile(data["measured"], 0.99), 3 * typical), data["before"], data["after"] or 0])
    shown = [(step, seconds) for step, seconds in zip(data["steps"], data["measured"]) if seconds <= top]
    hidden = len(data["measured"]) - len(shown)
    steps, measured = thinned(*map(list, zip(*shown)))
    by_step.plot(
        steps, [value / size for value in measured], ".", color=MEASURED, markersize=3, label="measured, a point a step"
    )
    by_step.axhline(typical / size, color=MEASURED, linewidth=1, label="measured median")
    by_step.axhline(
        data["before"] / size, color=BEFORE, linestyle="--", linewidth=2, label="predicted before calibration"
    )
    if data["after"] is not None:
        by_step.axhline(data["after"] / size, color=AFTER, linewidth=2, label="predicted after calibration")
    if data["after_interval"]:
        low, high = (bound / size for bound in data["after_interval"])
        by_step.axhspan(low, high, color=AFTER, alpha=0.12, linewidth=0, label="its 90 % interval")
    by_step.set_ylim(0, top / size)
    by_step.set_xlabel("step" + (f" ({hidden} slower than the axis, not drawn)" if hidden else ""))
    by_step.set_ylabel(f"time of a step ({unit})")
    spread.hist([seconds / size for _, seconds in shown], bins=40, orientation="horizontal", color=MEASURED, alpha=0.6)
    spread.set_xlabel("steps")
    figure.legend(*by_step.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def quantile(values, q):
    return sorted(values)[round(q * (len(values) - 1))]


def caption(data):
    measured = median(data["measured"])
    text = (
        f"Median of the measured steps after warm-up: {seconds_text(measured)}; predicted before calibration: "
        f"{seconds_text(data['before'])} ({percent_text(data['before'] / measured - 1)})"
    )
    if data["after"] is not None:
        text += f", after: {seconds_text(data['after'])} ({percent_text(data['after'] / measured - 1)})"
    return text + ". The spread comes from the draws of k and from the machine."


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
