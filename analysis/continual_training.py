"""What continual training with drawn k does for a base trained at k = 1 alone, against going on at k = 1.

Trains the ready job demo-base, then from its weights demo-continual (10 % of the base's tokens) and, as a control, the same
continuation at k = 1; evaluates all along the way at k = 1..6 on held-out text.

  python3 analysis/continual_training.py --bin build/bin --text build/demo_text/bible.txt --work build/continual \
      --out analysis/continual_training
"""

import argparse
import json
import pathlib

from drawing import plt
from experiment import run, write_csv, write_section

KS = range(1, 7)
CONTROL = ["--elastic.sampling", "fixed", "--elastic.k_min", "1", "--elastic.k_max", "1", "--elastic.k_reference", "6"]
COLUMNS = ["run", "step", "tokens", *(f"loss_k{k}" for k in KS)]


def step_of(checkpoint):
    return int(checkpoint.name.split("_")[1])


def losses(arguments, checkpoint):
    """Loss at each k on the valid split, nats a token."""
    words = ["--checkpoint", checkpoint, "--data", arguments.work / "tokens", "--k", ",".join(map(str, KS)), "--json"]
    words += ["--max-sequences", arguments.sequences]
    return json.loads(run(arguments.bin / "mmoe", "eval", *words))["loss_by_k"]


def rows_of(arguments, name, checkpoints, tokens_before, tokens_per_step):
    for checkpoint in sorted(checkpoints, key=step_of):
        step = step_of(checkpoint)
        row = {"run": name, "step": step, "tokens": tokens_before + step * tokens_per_step}
        yield row | {f"loss_k{k}": loss for k, loss in losses(arguments, checkpoint).items()}


def train(arguments, job, folder, *words):
    """Trains a ready job unless that was done before; returns its checkpoints."""
    if not (folder / "done").exists():
        resume = ["--resume"] if (folder / "checkpoints").exists() else []
        common = ["--job", job, "--data", arguments.work / "tokens", "--out", folder, "--threads", arguments.threads]
        run(arguments.bin / "mmoe", "train", *common, *words, *resume)
        (folder / "done").touch()
    return list((folder / "checkpoints").glob("step_*"))


def draw(rows, base_tokens, path):
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, name, title in zip(axes, ("k 1..6", "k = 1"), ("going on with k drawn from 1..6", "going on at k = 1")):
        points = [row for row in rows if row["run"] in ("base", name)]
        for k in KS:
            share = [100 * (row["tokens"] / base_tokens - 1) for row in points]
            axis.plot(share, [row[f"loss_k{k}"] for row in points], marker="o", markersize=3, label=f"k = {k}")
        axis.set(title=title, xlabel="tokens after the base, % of the base's")
    axes[0].set_ylabel("loss on held-out text, nats a token")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def page(rows):
    """The Markdown below "## Results"."""
    base = next(row for row in rows if row["run"] == "base")
    lines = ["| | tokens after the base | " + " | ".join(f"k = {k}" for k in KS) + " |", "|---" * (len(KS) + 2) + "|"]
    for row in rows:
        share = row["tokens"] / base["tokens"] - 1
        cells = " | ".join(f"{row[f'loss_k{k}']:.4f} ({row[f'loss_k{k}'] - base[f'loss_k{k}']:+.4f})" for k in KS)
        lines.append(f"| {row['run']} | {share:.1%} | {cells} |")
    last = [row for row in rows if row["run"] == "k 1..6"][-1]
    control = [row for row in rows if row["run"] == "k = 1"][-1]
    better = [k for k in KS if last[f"loss_k{k}"] < base[f"loss_k{k}"]]
    ahead = [k for k in KS if last[f"loss_k{k}"] < control[f"loss_k{k}"]]
    lines += [
        "",
        f"After {last['tokens'] / base['tokens'] - 1:.0%} of the base's tokens the loss is below the base's at k = "
        f"{', '.join(map(str, better)) or 'none'}, and below the control's at k = {', '.join(map(str, ahead)) or 'none'}. "
        "One seed: differences between runs are not resolved beyond their size in the table.",
    ]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of mmoe and mmoe-train")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder of the runs; a run done before is kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="prefix of .csv, .png and .md")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=256, help="held-out windows of an evaluation")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not (arguments.work / "tokens.json").exists():
        words = ["--text", arguments.text, "--tokenizer", "sentencepiece", "--vocab-size", 1024]
        run(arguments.bin / "mmoe", "data", "build", *words, "--out", arguments.work / "tokens")
    base = train(arguments, "demo-base", arguments.work / "base")
    end = max(base, key=step_of)
    job = json.loads((arguments.work / "base" / "job.json").read_text())["training"]
    tokens_per_step = job["global_batch_size"] * job["seq_len"]
    base_tokens = step_of(end) * tokens_per_step
    rows = list(rows_of(arguments, "base", [end], 0, tokens_per_step))
    for name, folder, words in (("k 1..6", "continual", []), ("k = 1", "control", CONTROL)):
        words = ["--init", end, "--training.checkpoint_interval", "25", *words]
        checkpoints = train(arguments, "demo-continual", arguments.work / folder, *words)
        rows += rows_of(arguments, name, checkpoints, base_tokens, tokens_per_step)
    write_csv(rows, COLUMNS, arguments.out.with_suffix(".csv"))
    draw(rows, base_tokens, arguments.out.with_suffix(".png"))
    write_section(arguments.out.with_suffix(".md"), "## Results", page(rows))
    print("\n".join(page(rows)))


if __name__ == "__main__":
    main()
