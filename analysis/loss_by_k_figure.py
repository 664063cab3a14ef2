"""Loss on text not trained on, against the number of active experts k."""

from drawing import AFTER, FREE, panels
from load import Missing, figure_main

TITLE = "Loss against k"


def by_number(mapping):
    """{"1": x, "2": y} as [(1, x), (2, y)] in rising order."""
    return sorted((int(k), value) for k, value in mapping.items())


def compute(run):
    (evaluation,) = run.need("evaluation")
    losses = evaluation.find("loss_by_k")
    if not losses:
        raise Missing("eval.json holds no loss_by_k; mmoe eval --k 1,2,... writes it")
    bits = evaluation.find("bits_per_byte_by_k")
    return {
        "loss": by_number(losses),
        "bits_per_byte": by_number(bits) if bits else None,
        "split": evaluation.find("split", "valid"),
        "tokens": evaluation.find("tokens"),
        "unigram_bits_per_byte": run.loop.find("text.unigram_entropy_bits_per_byte") if run.loop else None,
    }


def draw(data):
    points = data["bits_per_byte"] or data["loss"]
    figure, (axes,) = panels(1, width=8)
    axes.plot([k for k, _ in points], [value for _, value in points], "o-", color=AFTER)
    values = [value for _, value in points]
    room = 0.25 * (max(values) - min(values) or 0.1)
    for k, value in points:
        axes.annotate(f"{value:.3f}", (k, value), textcoords="offset points", xytext=(5, 6), fontsize=9)
    axes.set_ylim(min(values) - room, max(values) + 2 * room)
    axes.set_xlim(points[0][0] - 0.4, points[-1][0] + 0.4)
    axes.set_xticks([k for k, _ in points])
    axes.set_xlabel("active experts k in every layer")
    axes.set_ylabel(
        f"loss, {data['split']} split\n" + ("(bits per byte)" if data["bits_per_byte"] else "(nats per token)")
    )
    if data["bits_per_byte"] and data["unigram_bits_per_byte"]:
        axes.text(
            0.98,
            0.97,
            f"unigram entropy: {data['unigram_bits_per_byte']:.2f} bits per byte",
            color=FREE,
            ha="right",
            va="top",
            transform=axes.transAxes,
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )
    return figure


def caption(data):
    first, last = data["loss"][0], data["loss"][-1]
    text = f"One set of weights: {first[1]:.3f} nats per token at k = {first[0]}, {last[1]:.3f} at k = {last[0]}"
    if data["bits_per_byte"]:
        text += f" ({data['bits_per_byte'][0][1]:.3f} and {data['bits_per_byte'][-1][1]:.3f} bits per byte)"
    return text + "."


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
