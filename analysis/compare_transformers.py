"""Whole training steps of `mmoe train` beside Hugging Face transformers' OLMoE: tokens/s, bytes kept, elasticity.

Both sides train the same weights on the same batch with the same draws of k, AdamW settings, clipping, threads and
LibTorch libraries; neither has auxiliary losses. Before any timing counts, their first losses must agree. A first round
times every variant of transformers and picks the fastest at each point; the rounds after it time that one and the
trainer in turns, and alone make the ratios. Run it on an idle machine:

  source build/env.sh && python3 analysis/compare_transformers.py --size small --out analysis/compare_transformers
"""

import argparse
import csv
import dataclasses
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array

from drawing import AFTER, BEFORE, MEASURED, panels, whole_numbers
from load import DataError

K_MAX = 6
DRAWN = "drawn"  # a k of its own for every layer, uniform in 1..K_MAX
EVERY_K = (*range(1, K_MAX + 1), DRAWN)


@dataclasses.dataclass(frozen=True)
class Size:
    """A model, its batch, and how much of it is timed."""

    title: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_experts: int
    expert_hidden_size: int
    ks: tuple
    timed_steps: int  # of every run; twice as many where k is drawn, since steps differ then
    profile_repetitions: int
    vocab_size: int = 2048
    seq_len: int = 256
    batch: int = 8


SIZES = {
    "small": Size("8 layers, hidden 256, 16 experts of 128", 8, 256, 4, 16, 128, EVERY_K, 2, 5),
    "large": Size("2 layers, hidden 768, 64 experts of 256", 2, 768, 12, 64, 256, (1, 2, 4, 6, DRAWN), 1, 2),
}
QUICK = Size("a quick check", 2, 64, 4, 8, 32, (2, DRAWN), 1, 1, vocab_size=256, seq_len=32, batch=4)
WARMUP_STEPS = 1  # untimed steps at the start of every run
COMMAND = "python3 analysis/compare_transformers.py"
PRECISIONS = ("fp32", "bf16")
TRAINING = {
    "schedule": "constant",
    "learning_rate": 1e-4,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "clip_norm": 1.0,
    "load_balance_coefficient": 0.0,
    "z_loss_coefficient": 0.0,
}
COLUMNS = (
    "size precision k fastest ours_tokens_per_s theirs_tokens_per_s ratio ratio_low ratio_high rounds ours_first_loss "
    "theirs_first_loss loss_tolerance ours_kept_bytes theirs_kept_bytes"
).split()
# Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def job(size, precision, k, hf_config):
    """A job file; `k` is a number or DRAWN."""
    k_range = {"k_min": 1, "k_max": K_MAX} if k == DRAWN else {"k_min": k, "k_max": k}
    return {
        "model": {"hf_config": str(hf_config)},
        "hardware": {"device": "cpu"},
        "training": {
            "seq_len": size.seq_len,
            "micro_batch_size": size.batch,
            "global_batch_size": size.batch,
            "precision": precision,
        }
        | TRAINING,
        "elastic": k_range | {"granularity": "layer"},
    }


def loss_tolerance(size, precision):
    """Largest difference of the two sides' mean losses (nats) that rounding explains.

    Either side's logits carry a relative error of u sqrt(n) (rounding errors taken as independent, Higham and Mary
    2019, doi:10.1137/18M1226312) over the longest path: n = the sums of a layer (four products over D and one over S)
    and 30 further roundings, L times, and the head's D; in bf16 sums are formed in fp32, so only 30 L roundings count.
    The logits' own size is known from the weights (`transformers_olmoe`): spread * the root mean square of a norm's
    weights. Cross-entropy has a gradient of length sqrt(2) at most. Six standard deviations; in bf16, where every
    token's routing may tip the other way on its own, of the mean of B S tokens.
    """
    from transformers_olmoe import NORM_RANGE, WEIGHT_SPREAD

    low, high = NORM_RANGE
    logit = WEIGHT_SPREAD * math.sqrt((low**2 + low * high + high**2) / 3)
    if precision == "bf16":
        relative = 2.0**-8 * math.sqrt(30 * size.num_layers / (size.batch * size.seq_len))
    else:
        layer = 4 * size.hidden_size + size.seq_len + 30
        relative = 2.0**-24 * math.sqrt(size.num_layers * layer + size.hidden_size)
    return 6 * math.sqrt(2) * math.sqrt(2) * relative * logit  # two sides, the gradient's length


def interval(ratios):
    """(geometric mean, low, high) of ratios, with the 95 % t interval of their logarithms; no interval from one."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), None, None
    quantile = STUDENT_T[len(logs) - 2] if len(logs) - 2 < len(STUDENT_T) else STUDENT_T[-1]
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


class OurSide:
    """Runs of `mmoe-train` from the same weights on the same batch."""

    def __init__(self, programs, folder, tokens, size, threads):
        self.programs, self.folder, self.size, self.threads = pathlib.Path(programs), folder, size, threads
        self.libraries = set()  # LibTorch's, as the running program has mapped them
        with open(folder / "tokens.bin", "wb") as file:
            array("H", tokens).tofile(file)
        flags = ["--format", "uint16", "--vocab-size", size.vocab_size, "--split", "1,0,0,0"]
        self._mmoe("data", "import", "--tokens", folder / "tokens.bin", *flags, "--out", folder / "tokens")
        self._mmoe("import", "--from", folder / "theirs", "--out", folder / "checkpoint")

    def _mmoe(self, *words):
        result = subprocess.run([self.programs / "mmoe", *map(str, words)], capture_output=True, text=True)
        if result.returncode != 0:
            raise DataError(f"mmoe {words[0]}: {result.stderr.strip()}")
        return result.stdout

    def _job(self, precision, k):
        path = self.folder / f"job_{precision}_{k}.json"
        path.write_text(json.dumps(job(self.size, precision, k, self.folder / "theirs" / "config.json")))
        return path

    def run(self, precision, k, num_steps):
        """The first `num_steps` lines of metrics.jsonl. The run is ended before it writes a checkpoint, which would put
        the disk to work while the other side is timed."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            words = ["train", "--job", self._job(precision, k), "--data", self.folder / "tokens", "--out", out]
            words += ["--init", self.folder / "checkpoint", "--steps", num_steps + 1, "--threads", self.threads]
            log = pathlib.Path(out) / "metrics.jsonl"
            errors = self.folder / "errors.txt"
            with open(errors, "w") as stderr:
                program = subprocess.Popen([self.programs / "mmoe-train", *map(str, words)], stderr=stderr)
            try:
                while True:
                    ended = program.poll() is not None
                    lines = log.read_text().splitlines() if log.exists() else []
                    self.libraries = self.libraries or mapped_libraries(program.pid)
                    if len(lines) >= num_steps:
                        return [json.loads(line) for line in lines[:num_steps]]
                    if ended:
                        raise DataError(f"mmoe train ended early: {errors.read_text().strip()}")
                    time.sleep(0.02)
            finally:
                program.kill()
                program.wait()

    def profile(self, precision):
        """Of one step at each k: seconds of the experts and bytes kept by the forward pass, {k: (seconds, bytes)}."""
        path = self.folder / f"profile_{precision}.json"
        flags = ["--no-probes", "--repetitions", self.size.profile_repetitions, "--threads", self.threads]
        self._mmoe("profile", "--job", self._job(precision, DRAWN), "--out", path, *flags)
        operations = json.loads(path.read_text())["operations"]

        def total(k, wanted, value):
            return sum(value(o) for o in operations if o["k"] in (0, k) and wanted(o))

        return {
            k: (
                total(k, lambda o: o["operation"] == "experts", lambda o: o["seconds"]["median"]),
                round(total(k, lambda o: o["phase"] == "forward", lambda o: o["kept_bytes"])),
            )
            for k in sorted({o["k"] for o in operations} - {0})
        }


def mapped_libraries(pid):
    """(device, inode) of LibTorch's CPU library in a running process; empty where there is no /proc."""
    maps = pathlib.Path(f"/proc/{pid}/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return {tuple(line.split()[3:5]) for line in lines if line.endswith("/libtorch_cpu.so")}


class Point:
    """One size, precision and k: what both sides did there."""

    def __init__(self, size, precision, k):
        self.size, self.precision, self.k = size, precision, k
        self.first_losses, self.kept_bytes, self.seconds = {}, {}, {}  # by variant; seconds of a step, to pick one
        self.our_first_loss = self.our_kept_bytes = self.fastest = self.k_per_step = None
        self.rounds = []  # {"ours": [seconds of each step], "theirs": [...]}

    def where(self):
        return f"{self.size.title}, {self.precision}, k = {self.k}"


def timed(steps):
    return [step["seconds"] for step in steps[WARMUP_STEPS:]]


def qualify(point, ours, theirs):
    """Checks the first losses, times one step of every variant, and picks the fastest. Throws DataError."""
    from transformers_olmoe import VARIANTS

    size = point.size
    num_steps = WARMUP_STEPS + size.timed_steps * (2 if point.k == DRAWN else 1)
    records = ours.run(point.precision, point.k, num_steps)
    point.our_first_loss = records[0]["loss"]
    point.k_per_step = [record["k_per_layer"][0] for record in records]
    tolerance = loss_tolerance(size, point.precision)
    for name, variant in VARIANTS[point.precision].items():
        result = theirs.run(variant, point.k_per_step[: WARMUP_STEPS + 1], kept_bytes=True)
        point.first_losses[name], point.kept_bytes[name] = result[0]["loss"], result[0]["kept_bytes"]
        point.seconds[name] = sum(timed(result))
        difference = abs(result[0]["loss"] - point.our_first_loss)
        if not difference <= tolerance:
            raise DataError(
                f"{point.where()}: the first loss is {point.our_first_loss:.6f} here and {result[0]['loss']:.6f} in "
                f"transformers ({name}), more than {tolerance:.2g} apart; the two sides do not train the same"
            )
    point.fastest = min(point.seconds, key=point.seconds.get)


def one_round(point, ours, theirs, ours_first):
    from transformers_olmoe import VARIANTS

    def run_ours():
        return timed(ours.run(point.precision, point.k, len(point.k_per_step)))

    def run_theirs():
        return timed(theirs.run(VARIANTS[point.precision][point.fastest], point.k_per_step))

    if ours_first:
        mine, other = run_ours(), run_theirs()
    else:
        other, mine = run_theirs(), run_ours()
    point.rounds.append({"ours": mine, "theirs": other})


def summary(point):
    size = point.size
    tokens = size.batch * size.seq_len
    ratio, low, high = interval([sum(r["theirs"]) / sum(r["ours"]) for r in point.rounds])

    def median_rate(side):
        return tokens / statistics.median(seconds for r in point.rounds for seconds in r[side])

    return {
        "size": size.title,
        "precision": point.precision,
        "k": point.k,
        "fastest": point.fastest,
        "ours_tokens_per_s": median_rate("ours"),
        "theirs_tokens_per_s": median_rate("theirs"),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "rounds": len(point.rounds),
        "ours_first_loss": point.our_first_loss,
        "theirs_first_loss": point.first_losses[point.fastest],
        "loss_tolerance": loss_tolerance(size, point.precision),
        "ours_kept_bytes": point.our_kept_bytes,
        "theirs_kept_bytes": min(point.kept_bytes.values()),
        "qualifying_seconds": point.seconds,
        "first_losses": point.first_losses,
        "kept_bytes": point.kept_bytes,
        "seconds": point.rounds,
    }


def elasticity(size, precision, profile):
    """The experts' time at each k against k / K_MAX of that at K_MAX."""
    at_most = profile[max(profile)][0]
    return [
        {
            "size": size.title,
            "precision": precision,
            "k": k,
            "expert_seconds": seconds,
            "against_share_of_k_max": seconds / (k / max(profile) * at_most),
        }
        for k, (seconds, _) in profile.items()
    ]


def draw(result):
    names = list(dict.fromkeys(cell["size"] for cell in result["points"]))
    figure, axes = panels(len(names) + 1, width=4.2 * (len(names) + 1))
    colours = {"fp32": BEFORE, "bf16": AFTER}
    offsets = {"fp32": -0.08, "bf16": 0.08}
    places = {DRAWN: K_MAX + 1}
    for axis, name in zip(axes, names, strict=False):
        for precision in PRECISIONS:
            cells = [c for c in result["points"] if c["size"] == name and c["precision"] == precision]
            x = [places.get(c["k"], c["k"]) + offsets[precision] for c in cells]
            y = [c["ratio"] for c in cells]
            below = [c["ratio"] - (c["ratio_low"] or c["ratio"]) for c in cells]
            above = [(c["ratio_high"] or c["ratio"]) - c["ratio"] for c in cells]
            axis.errorbar(x, y, yerr=[below, above], fmt="o", capsize=3, color=colours[precision], label=precision)
        axis.axhline(1, color=MEASURED, linewidth=0.8)
        ticks = sorted({places.get(c["k"], c["k"]) for c in result["points"]})
        axis.set_xticks(ticks, ["drawn" if tick > K_MAX else str(tick) for tick in ticks])
        axis.set(title=name, xlabel="active experts k", ylabel="tokens/s, mmoe / transformers", ylim=(0, None))
        axis.legend()
    styles = ("-", "--")
    for i, name in enumerate(names):
        for precision in PRECISIONS:
            rows = [r for r in result["elasticity"] if r["size"] == name and r["precision"] == precision]
            x, y = [r["k"] for r in rows], [r["against_share_of_k_max"] for r in rows]
            label = f"{precision}, {name.split(', ')[-1]}"
            axes[-1].plot(x, y, styles[i % 2], marker="o", color=colours[precision], label=label)
    axes[-1].axhline(1, color=MEASURED, linewidth=0.8)
    axes[-1].set(title="elasticity of mmoe", xlabel="active experts k", ylim=(0, None))
    axes[-1].set_ylabel(f"experts' time / (k/{K_MAX} of that at k = {K_MAX})")
    axes[-1].legend()
    whole_numbers(axes[-1].xaxis)
    return figure


def summary_text(result):
    """The table and the command, as Markdown."""
    settings = result["settings"]
    lines = [
        "# Training steps beside Hugging Face transformers",
        "",
        f"Written by `{settings['command']}`: {result['machine']['processor']}, {settings['threads']} threads, torch "
        f"{result['machine']['torch']} on both sides, transformers {result['machine']['transformers']}. OLMoE models, "
        f"sequences of {settings['seq_len']}, batch {settings['batch']}, AdamW, clipping, no auxiliary losses; equal "
        "weights, batch and draws of k, first losses equal within the tolerance in the CSV. Tokens/s: medians of the "
        "timed steps; ratio: geometric mean over rounds in turns, with its 95 % interval. Kept: bytes that the forward "
        "pass leaves for the backward pass (ours by the allocator's count, theirs the saved tensors other than "
        "weights, of the variant that keeps least).",
        "",
        "| model | precision | k | mmoe, tokens/s | transformers, tokens/s (variant) | ratio | kept, MiB, both sides |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in result["points"]:
        spread = f" ({c['ratio_low']:.2f} to {c['ratio_high']:.2f})" if c["ratio_low"] else ""
        own = f"{c['ours_kept_bytes'] / 2**20:.0f}" if c["ours_kept_bytes"] else "-"
        lines.append(
            f"| {c['size']} | {c['precision']} | {c['k']} | {c['ours_tokens_per_s']:,.0f} | "
            f"{c['theirs_tokens_per_s']:,.0f} ({c['fastest']}) | {c['ratio']:.2f}{spread} | "
            f"{own} / {c['theirs_kept_bytes'] / 2**20:.0f} |"
        )
    lines += ["", f"The experts' time at k against k/{K_MAX} of that at k = {K_MAX}; 1: what k experts cost:", ""]
    ks = sorted({row["k"] for row in result["elasticity"]})
    lines += ["| model | precision | " + " | ".join(f"k = {k}" for k in ks) + " |", "|---" * (len(ks) + 2) + "|"]
    for name, precision in dict.fromkeys((row["size"], row["precision"]) for row in result["elasticity"]):
        rows = {r["k"]: r for r in result["elasticity"] if (r["size"], r["precision"]) == (name, precision)}
        cells = " | ".join(f"{rows[k]['against_share_of_k_max']:.2f}" if k in rows else "-" for k in ks)
        lines.append(f"| {name} | {precision} | {cells} |")
    return "\n".join(lines) + "\n"


def write(result, out):
    """`out`.json, .csv, .md and .png; `out` is a path without its ending."""
    pathlib.Path(f"{out}.json").write_text(json.dumps(result, indent=1) + "\n")
    with open(f"{out}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(result["points"])
    pathlib.Path(f"{out}.md").write_text(summary_text(result))
    draw(result).savefig(f"{out}.png", dpi=110)


def processor():
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown processor")


def check_libraries(our_sides):
    """Throws DataError unless the trainer and this process have mapped the same LibTorch; Linux only."""
    here = mapped_libraries(os.getpid())
    if any(ours.libraries != here for ours in our_sides):
        raise DataError("mmoe-train runs on another LibTorch than this Python; run `source build/env.sh` first")


def compare(arguments, folder):
    """Runs everything and writes `arguments.out`.*; returns the result. Throws DataError."""
    from transformers_olmoe import TransformersSide, save_random_model, versions

    began = time.monotonic()
    names = [] if arguments.quick else arguments.size or list(SIZES)
    sizes = [SIZES[name] for name in names] or [QUICK]
    precisions = arguments.precision or list(PRECISIONS)
    chosen = [f"--precision {precision}" for precision in arguments.precision or []]
    sides, points, elastic = {}, [], []
    for size in sizes:
        place = folder / str(len(sides))
        place.mkdir()
        save_random_model(size, place / "theirs")
        generator = random.Random(1)
        tokens = [generator.randrange(size.vocab_size) for _ in range(size.batch * size.seq_len + 1)]
        sides[size] = (
            OurSide(arguments.programs, place, tokens, size, arguments.threads),
            TransformersSide(place / "theirs", tokens, size.seq_len, TRAINING, arguments.threads),
        )
        for precision in precisions:
            say(f"profile of {size.title}, {precision}")
            profile = sides[size][0].profile(precision)
            elastic += elasticity(size, precision, profile)
            for k in size.ks:
                points.append(Point(size, precision, k))
                points[-1].our_kept_bytes = profile[k][1] if k in profile else None
    for point in points:
        qualify(point, *sides[point.size])
        steps = ", ".join(f"{variant} {seconds:.3f} s" for variant, seconds in point.seconds.items())
        say(f"{point.where()}: first loss {point.our_first_loss:.5f}; a step of {steps}")
    check_libraries([ours for ours, _ in sides.values()])
    settings = {
        "command": " ".join([COMMAND, *(f"--size {name}" for name in names), *chosen]) + " --quick" * arguments.quick,
        "threads": arguments.threads,
        "warmup_steps": WARMUP_STEPS,
        "seq_len": sizes[0].seq_len,
        "batch": sizes[0].batch,
        "sizes": [dataclasses.asdict(size) for size in sizes],
        "training": TRAINING,
    }
    rounds, longest = 2 if arguments.quick else arguments.rounds, 0.0
    for i in range(rounds):
        start = time.monotonic()
        if i >= 2 and start + longest > began + 60 * arguments.minutes:
            say(f"stops after {i} rounds: another would pass --minutes {arguments.minutes:g}")
            break
        for point in points:
            one_round(point, *sides[point.size], ours_first=i % 2 == 0)
        result = {
            "machine": {"processor": processor()} | versions(),
            "settings": settings,
            "points": [summary(point) for point in points],
            "elasticity": elastic,
        }
        write(result, arguments.out)  # after every round, so that an interrupted run leaves what it has
        longest = max(longest, time.monotonic() - start)
        say(f"round {i + 1} of {rounds} took {time.monotonic() - start:.0f} s; {time.monotonic() - began:.0f} s in all")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default="build/bin", help="folder of mmoe and mmoe-train")
    parser.add_argument("--out", default="compare_transformers", help="writes OUT.json, .csv, .md and .png")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", action="append", choices=SIZES, help="again for several (default: all)")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="again for several (default: all)")
    parser.add_argument("--rounds", type=int, default=8, help="at most, after the one that picks the fastest variant")
    parser.add_argument("--minutes", type=float, default=13, help="no third or later round that would end after this")
    parser.add_argument("--quick", action="store_true", help="a tiny model, two rounds: does it all work?")
    arguments = parser.parse_args()
    try:
        pathlib.Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            result = compare(arguments, pathlib.Path(folder))
    except (DataError, ImportError, OSError) as error:
        print(f"mmoe: error: {error}", file=sys.stderr)
        return 2
    print(summary_text(result), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
