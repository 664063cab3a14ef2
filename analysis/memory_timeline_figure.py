"""Memory of the pipeline ranks over one step, by cause, from the file that `mmoe simulate --timeline` writes.

  mmoe simulate --job m-moe-100b-h100-1024 --timeline timeline.json
  python3 analysis/memory_timeline_figure.py timeline.json --draw drawn --out timeline.png
"""

import argparse
import json

from drawing import MEASURED, panels

GIB = 2**30
CAUSES = {
    "weights": "#0072B2",
    "gradients": "#56B4E9",
    "optimizer": "#009E73",
    "workspaces": "#999999",
    "buffers": "#CC79A7",
    "activations": "#E69F00",
    "logits": "#F0E442",
    "transient": "#D55E00",
}
MOST_RANKS = 4


def compute(timeline, draw):
    """Of the first, the last and ranks between: times (s) and GiB by cause; and the limit."""
    if draw not in timeline["draws"]:
        known = ", ".join(timeline["draws"])
        raise SystemExit(f"mmoe: error: --draw {draw}: the file holds {known}; name one of these")
    ranks = timeline["draws"][draw]
    last = len(ranks) - 1
    shown = sorted({round(i * last / (MOST_RANKS - 1)) for i in range(MOST_RANKS)})
    series = {}
    for rank in shown:
        samples = ranks[rank]["samples"]
        times = [0.0] + [sample[0] for sample in samples]
        moving = [[0.0] + [sample[i] / GIB for sample in samples] for i in (1, 2, 3)]
        held = {cause: [value / GIB] * len(times) for cause, value in ranks[rank]["held_bytes"].items()}
        causes = held | dict(zip(("activations", "logits", "transient"), moving))
        series[rank] = {"seconds": times, "causes": causes, "peak": ranks[rank]["peak"]}
    return {"ranks": series, "limit": timeline["limit_bytes"] / GIB, "draw": draw}


def draw(data):
    figure, axes = panels(len(data["ranks"]), width=2.8 * len(data["ranks"]) + 2, sharey=True)
    for axis, (rank, series) in zip(axes, data["ranks"].items()):
        causes = series["causes"]
        axis.stackplot(
            series["seconds"], *causes.values(), labels=causes, colors=[CAUSES[cause] for cause in causes], step="post"
        )
        axis.axhline(data["limit"], color=MEASURED, linewidth=1, linestyle="--", label="usable")
        axis.set(title=f"rank {rank}", xlabel="time of the step (s)")
    axes[0].set(ylabel="allocated (GiB)")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("timeline", help="file of mmoe simulate --timeline")
    parser.add_argument("--draw", default="k_max", help="k_max, or drawn where the job draws its k")
    parser.add_argument("--out", required=True, help="image to write")
    arguments = parser.parse_args()
    with open(arguments.timeline) as file:
        data = compute(json.load(file), arguments.draw)
    draw(data).savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
