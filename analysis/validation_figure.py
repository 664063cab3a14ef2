"""Step times predicted against measured, from the rows that `mmoe validate --csv` writes.

  mmoe validate --table runs.csv --csv rows.csv
  python3 analysis/validation_figure.py rows.csv ... --out accuracy.png
"""

import argparse
import csv

from drawing import AFTER, MEASURED, plt


def compute(paths, quantity="step_seconds"):
    """Measured and predicted values by framework."""
    points = {}
    for path in paths:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row["quantity"] == quantity:
                    pair = (float(row["measured"]), float(row["predicted"]))
                    points.setdefault(row["framework"], []).append(pair)
    return points


def mean_error(pairs):
    return sum(abs(predicted / measured - 1) for measured, predicted in pairs) / len(pairs)


def draw(points):
    figure, axes = plt.subplots(figsize=(6.5, 6))
    low = min(min(pair) for pairs in points.values() for pair in pairs)
    high = max(max(pair) for pairs in points.values() for pair in pairs)
    axes.plot([low, high], [low, high], color=MEASURED, linewidth=1, label="equal")
    axes.plot([low, high], [low * 1.1, high * 1.1], color=AFTER, linewidth=0.6, linestyle="--", label="10 % off")
    axes.plot([low, high], [low / 1.1, high / 1.1], color=AFTER, linewidth=0.6, linestyle="--")
    for framework, pairs in sorted(points.items()):
        label = f"{framework}: {len(pairs)} runs, {100 * mean_error(pairs):.1f} %"
        axes.plot(*zip(*pairs), ".", markersize=3, alpha=0.7, label=label)
    axes.set(xscale="log", yscale="log", xlabel="measured time of a step (s)", ylabel="predicted time of a step (s)")
    axes.legend(fontsize=7)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    draw(compute(arguments.rows)).savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
