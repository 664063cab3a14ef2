"""The chosen k of each layer beside uniform k, with predicted and verified loss."""

from drawing import AFTER, FREE, MEASURED, panels, whole_numbers
from load import figure_main

TITLE = "The allocation"


def compute(run):
    (allocation,) = run.need("allocation")
    return {
        "k": allocation.at("k_per_layer"),
        "uniform_k": allocation.find("uniform_k_per_layer"),
        "mean_k": sum(allocation.at("k_per_layer")) / len(allocation.at("k_per_layer")),
        "predicted_gain": allocation.find("predicted_difference"),
        "verified": allocation.at("verified_loss"),
        "uniform": allocation.at("uniform_loss"),
        "difference": difference_interval(allocation),
    }


def difference_interval(allocation):
    """(low, high) of verified minus uniform loss in nats per token, paired over sequences; None when not given."""
    interval = allocation.find("interval")
    if isinstance(interval, dict):
        interval = [interval.get("low"), interval.get("high")]
    if not interval or None in interval[:2]:
        return None
    return tuple(interval[:2])


def verdict(data):
    """In plain words: is the allocation better than uniform k at the same cost?"""
    gain = data["verified"] - data["uniform"]
    if data["difference"] is None:
        return f"The allocation's loss differs from uniform k's by {gain:+.4f} nats per token; no interval is given."
    low, high = data["difference"]
    interval = f"{gain:+.4f} nats per token, 95 % interval [{low:+.4f}, {high:+.4f}]"
    if high < 0:
        return f"The allocation beats uniform k at the same cost ({interval}) on text that the search never saw."
    if low > 0:
        return f"Uniform k is better than the allocation at the same cost ({interval}): use uniform k."
    return f"Uniform k is as good as the allocation at the same cost, as far as this text can tell ({interval})."


def draw(data):
    figure, (by_layer, losses) = panels(2, width=9, width_ratios=[3, 2])
    layers = range(1, len(data["k"]) + 1)
    by_layer.bar(layers, data["k"], color=AFTER, width=0.7, label="allocation")
    if data["uniform_k"]:
        by_layer.step(
            [0.5, *(layer + 0.5 for layer in layers)],
            [data["uniform_k"][0], *data["uniform_k"]],
            color=FREE,
            linewidth=2,
            label="uniform of equal cost",
        )
    if len(data["k"]) <= 16:
        by_layer.set_xticks(list(layers))
    else:
        whole_numbers(by_layer.xaxis)
    whole_numbers(by_layer.yaxis)
    by_layer.set_ylim(0, max(data["k"]) * 1.15)
    by_layer.set_xlabel("MoE layer")
    by_layer.set_ylabel("active experts k")
    by_layer.legend(loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=2)

    # Differences from uniform k, since the prediction is about another split than the verification.
    rows = [("verified\n(test split)", data["verified"] - data["uniform"], AFTER)]
    if data["predicted_gain"] is not None:
        rows.append(("predicted\n(search split)", data["predicted_gain"], MEASURED))
    for place, (_, value, color) in enumerate(rows):
        losses.plot(value, place, "o", color=color, markersize=8)
        losses.annotate(
            f"{value:+.4f}", (value, place), textcoords="offset points", xytext=(0, 9), ha="center", fontsize=9
        )
    if data["difference"]:
        losses.plot(data["difference"], [0, 0], color=AFTER, linewidth=2, solid_capstyle="butt")
    losses.axvline(0, color=FREE, linewidth=1)
    losses.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    losses.set_ylim(len(rows) - 0.4, -0.7)
    losses.margins(x=0.25)
    losses.locator_params(axis="x", nbins=4)
    losses.set_xlabel("loss less that of uniform k (nats per token)")
    return figure


def caption(data):
    layers = ", ".join(str(k) for k in data["k"]) if len(data["k"]) <= 64 else "see the table"
    text = f"k per layer: {layers} (mean {data['mean_k']:.2f}). {verdict(data)}"
    return text + (" The bar at the verified loss is that interval." if data["difference"] else "")


if __name__ == "__main__":
    figure_main(__doc__, compute, draw)
