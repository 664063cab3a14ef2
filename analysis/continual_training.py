"""What continual training with drawn k does for a base trained at k = 1 alone, against going on at k = 1.

Trains the ready job demo-base, then from its weights demo-continual (10 % of the base's tokens) and, as a control, the same
continuation at k = 1, each with several seeds; evaluates at k = 1..6 on held-out text, the first seed's along the way. The
rate to which the continuation warms up again is compared with others on the split "search", which nothing else is shown on.

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
SEEDS = (2, 3, 4)  # of the continuations; the first is the ready job's
RATES = (3e-4, 5e-4, 1e-3, 2e-3)
COLUMNS = ["run", "seed", "step", "tokens", *(f"loss_k{k}" for k in KS)]


def step_of(checkpoint):
    return int(checkpoint.name.split("_")[1])


def losses(arguments, checkpoint, split="valid"):
    """Loss at each k on a split, nats a token."""
    words = ["--checkpoint", checkpoint, "--data", arguments.work / "tokens", "--k", ",".join(map(str, KS)), "--json"]
    words += ["--max-sequences", arguments.sequences, "--split", split, "--threads", arguments.threads]
    return json.loads(run(arguments.bin / "mmoe", "eval", *words))["loss_by_k"]


def rows_of(arguments, name, seed, checkpoints, tokens_before, tokens_per_step):
    for checkpoint in sorted(checkpoints, key=step_of):
        step = step_of(checkpoint)
        row = {"run": name, "seed": seed, "step": step, "tokens": tokens_before + step * tokens_per_step}
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
        points = [row for row in rows if row["run"] == "base" or row["run"] == name and row["seed"] == SEEDS[0]]
        for k in KS:
            share = [100 * (row["tokens"] / base_tokens - 1) for row in points]
            axis.plot(share, [row[f"loss_k{k}"] for row in points], marker="o", markersize=3, label=f"k = {k}")
        axis.set(title=title, xlabel="tokens after the base, % of the base's")
    axes[0].set_ylabel("loss on held-out text, nats a token")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def page(rows, by_rate):
    """The Markdown below "## Results". `by_rate`: losses at each k on the split "search", and of the base as "base"."""
    base = next(row for row in rows if row["run"] == "base")
    head = " | ".join(f"k = {k}" for k in KS)
    lines = [f"| | seed | tokens after the base | {head} |", "|---" * (len(KS) + 3) + "|"]
    for row in rows:
        share = row["tokens"] / base["tokens"] - 1
        cells = " | ".join(f"{row[f'loss_k{k}']:.4f} ({row[f'loss_k{k}'] - base[f'loss_k{k}']:+.4f})" for k in KS)
        lines.append(f"| {row['run']} | {row['seed']} | {share:.1%} | {cells} |")

    def last(name):
        """By seed, behind the last token."""
        return {row["seed"]: row for row in rows if row["run"] == name}  # later rows replace earlier ones

    ends, controls = last("k 1..6"), last("k = 1")
    better = [k for k in KS if all(row[f"loss_k{k}"] < base[f"loss_k{k}"] for row in ends.values())]
    ahead = [k for k in KS if all(ends[seed][f"loss_k{k}"] < controls[seed][f"loss_k{k}"] for seed in ends)]
    lines += [
        "",
        f"After {ends[SEEDS[0]]['tokens'] / base['tokens'] - 1:.0%} of the base's tokens the loss is, with each of "
        f"{len(ends)} seeds, below the base's at k = {', '.join(map(str, better)) or 'none'}, and below the control's at "
        f"k = {', '.join(map(str, ahead)) or 'none'}.",
        "",
        "Rates to warm up to, by the change of the loss on the split \"search\":",
        "",
        f"| rate | {head} |",
        "|---" * (len(KS) + 1) + "|",
    ]
    for rate in RATES:
        cells = " | ".join(f"{by_rate[rate][str(k)] - by_rate['base'][str(k)]:+.4f}" for k in KS)
        lines.append(f"| {rate:g} | {cells} |")
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
    rows = list(rows_of(arguments, "base", "", [end], 0, tokens_per_step))
    start = ["--init", end, "--training.checkpoint_interval", "25"]
    for name, folder, words in (("k 1..6", "continual", []), ("k = 1", "control", CONTROL)):
        for seed in SEEDS:
            run_folder = arguments.work / f"{folder}_{seed}"
            checkpoints = train(arguments, "demo-continual", run_folder, *start, "--training.seed", seed, *words)
            shown = checkpoints if seed == SEEDS[0] else [max(checkpoints, key=step_of)]
            rows += rows_of(arguments, name, seed, shown, base_tokens, tokens_per_step)
    by_rate = {"base": losses(arguments, end, "search")}
    for rate in RATES:
        run_folder = arguments.work / f"rate_{rate:g}"
        checkpoints = train(arguments, "demo-continual", run_folder, *start, "--training.learning_rate", rate)
        by_rate[rate] = losses(arguments, max(checkpoints, key=step_of), "search")
    write_csv(rows, COLUMNS, arguments.out.with_suffix(".csv"))
    draw(rows, base_tokens, arguments.out.with_suffix(".png"))
    write_section(arguments.out.with_suffix(".md"), "## Results", page(rows, by_rate))
    print("\n".join(page(rows, by_rate)))


if __name__ == "__main__":
    main()
