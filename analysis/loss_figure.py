"""Training loss over steps, beside the entropy of a token without context."""

from drawing import AFTER, FREE, MEASURED, panels, thinned
from load import figure_main
from memory_figure import median

TITLE = "Training loss"


def compute(run):
    (metrics,) = run.need("metrics")
    losses = [record.at("loss") for record in metrics]
    return {
        "steps": [record.at("step") for record in metrics],
        "loss": losses,
        "smooth": running_median(losses, max(1, len(losses) // 25)),
        "bits_per_byte_of_nat": run.loop.find("text.bits_per_byte_of_nat") if run.loop else None,
        "unigram_bits_per_byte": run.loop.find("text.unigram_entropy_bits_per_byte") if run.loop else None,
    }


def running_median(values, width):
    """At each place the median of the `width` values around it, fewer at the ends."""
    half = width // 2
    return [median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def draw(data):
    scale = data["bits_per_byte_of_nat"]
    figure, (axes,) = panels(1, width=8)
    steps, losses, smooth = thinned(data["steps"], data["loss"], data["smooth"])
    factor = scale or 1
    axes.plot(
        steps,
        [factor * value for value in losses],
        color=MEASURED,
        alpha=0.3,
        linewidth=0.8,
        label="each step, with its drawn k",
    )
    axes.plot(steps, [factor * value for value in smooth], color=AFTER, linewidth=2, label="running median")
    if scale and data["unigram_bits_per_byte"]:
        axes.axhline(
            data["unigram_bits_per_byte"], color=FREE, linestyle="--", label="unigram entropy: a model without context"
        )
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (bits per byte)" if scale else "training loss (nats per token)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def caption(data):
    first, last = data["loss"][0], data["smooth"][-1]
    text = f"Loss fell from {first:.3f} to {last:.3f} nats per token over {data['steps'][-1]} steps."
    if data["bits_per_byte_of_nat"] and data["unigram_bits_per_byte"]:
        text += (
            f" That is {data['bits_per_byte_of_nat'] * last:.2f} bits per byte; a model that ignores context cannot "
            f"go below {data['unigram_bits_per_byte']:.2f}."
        )
    return text


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
