"""Does a tuned budget keep its promise over real steps, and is the saving the predicted one?

For each configuration the limit is the unbudgeted peak (99 % over the run's steps) less a wanted saving. `mmoe budget`
tunes a bound for that limit at 99 %; the job is then trained with and without it on the same data, and every step's peak
is compared with the limit. The largest peak of an unbudgeted run is itself random, so the saving that a run shows is
compared with the one predicted from its median ("typical"); the headline saving is from its 99 % quantile.

  python3 analysis/budget_promise.py --bin build/bin --data build/study/tokens --out analysis/budget_promise \\
      --page analysis/budget_study.md
"""

import argparse
import concurrent.futures
import csv
import json
import pathlib
import tempfile

from experiment import run, write_csv, write_section

CONFIDENCE = 0.99
CONFIGURATIONS = {  # changes of the job, and the saving that is asked for
    "3 layers": ({"model.num_layers": 3}, 0.08),
    "6 layers": ({"model.num_layers": 6}, 0.10),
    "6 layers, bf16": ({"model.num_layers": 6, "training.precision": "bf16"}, 0.10),
    "6 layers, capacity-weighted": ({"model.num_layers": 6, "elastic.sampling": "capacity_weighted"}, 0.10),
    "6 layers, attention recomputed": ({"model.num_layers": 6, "training.recompute": ["attention"]}, 0.10),
    "12 layers, small micro-batch": ({"model.num_layers": 12, "training.micro_batch_size": 4}, 0.05),
    "6 layers, k 2 to 8": ({"model.num_layers": 6, "elastic.k_min": 2, "elastic.k_max": 8}, 0.12),
    "6 layers, one k a micro-batch": ({"model.num_layers": 6, "elastic.granularity": "micro_batch"}, 0.08),
}
COLUMNS = (
    "configuration asked_saving bound steps draws limit_mib promised_peak_mib largest_peak_mib kept predicted_saving "
    "predicted_typical_saving measured_saving error_points predicted_mean_saving measured_mean_saving mean_error_points"
).split()
HEADING = "### Runs"
MIB = 2**20


def job(changes):
    base = {
        "model": {"hidden_size": 32, "num_layers": 6, "num_heads": 4, "vocab_size": 512, "num_experts": 12,
                  "expert_hidden_size": 32},
        "hardware": {"device": "cpu"},
        "training": {"seq_len": 64, "micro_batch_size": 8, "global_batch_size": 16, "precision": "fp32",
                     "learning_rate": 3e-3, "warmup_steps": 40, "seed": 11},
        "elastic": {"k_min": 1, "k_max": 6},
    }
    for key, value in changes.items():
        section, name = key.split(".")
        base[section][name] = value
    return base


def peaks(folder):
    """Peak bytes of every step from the second on."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["peak_allocated_bytes"] for line in lines[1:]]


def tuned(programs, path, changed, steps, confidence, *goal):
    """What `mmoe budget` answers for a job, which is written to `path`."""
    path.write_text(json.dumps(changed))
    words = ["--job", path, "--confidence", confidence, "--steps", steps, "--json", *goal]
    return json.loads(run(programs / "mmoe", "budget", *words, progress=False))


def promise(programs, path, changed, steps, saving):
    """The limit in bytes that the wanted saving leaves, the budget tuned for it, and the median of the unbudgeted peak."""
    unlimited = tuned(programs, path, changed, steps, CONFIDENCE, "--saving", saving)
    limit = round(unlimited["without"]["peak_allocated_bytes"] * (1 - saving))
    plan = tuned(programs, path, changed, steps, CONFIDENCE, "--memory-limit", limit)
    typical = tuned(programs, path, changed, steps, 0.5, "--memory-limit", limit)
    return limit, plan, typical["without"]["peak_allocated_bytes"]


def bound_text(budget):
    return f"{budget['kind']} {budget['sum_k']}"


def outcome(name, saving, steps, limit, plan, typical_free_peak, free, bounded):
    """What was promised beside what the peaks of the two runs show."""
    predicted, measured = 1 - plan["peak_allocated_bytes"] / typical_free_peak, 1 - max(bounded) / max(free)
    return {
        "configuration": name,
        "asked_saving": saving,
        "bound": bound_text(plan["budget"]),
        "steps": steps,
        "limit_mib": limit / MIB,
        "promised_peak_mib": plan["peak_allocated_bytes"] / MIB,
        "largest_peak_mib": max(bounded) / MIB,
        "kept": max(bounded) <= limit,
        "predicted_typical_saving": predicted,
        "measured_saving": measured,
        "error_points": 100 * (measured - predicted),
    }


def measure(programs, data, name, changes, saving, steps, folder):
    path = folder / "job.json"
    limit, plan, typical_free_peak = promise(programs, path, job(changes), steps, saving)
    measured = {}
    for arm, budget in (("free", None), ("bounded", plan["budget"])):
        changed = job(changes)
        if budget is not None:
            changed["elastic"]["budget"] = budget
        path.write_text(json.dumps(changed))
        words = ["--job", path, "--data", data, "--out", folder / arm, "--steps", steps, "--threads", 1]
        run(programs / "mmoe", "train", *words, progress=False)
        measured[arm] = peaks(folder / arm)
    free, bounded = measured["free"], measured["bounded"]

    def mean(values):
        return sum(values) / len(values)

    # The saving over the mean step: both means from the exact law of a step's peak.
    laws = {}
    for arm in ("free", "bounded"):
        law = json.loads(run(programs / "mmoe", "simulate", "--job", folder / arm / "job.json", "--json"))
        laws[arm] = law["elastic"]["peak_allocated_bytes"]
    row = outcome(name, saving, steps, limit, plan, typical_free_peak, free, bounded) | {
        "draws": plan["horizon"]["draws"],
        "predicted_saving": plan["saving_fraction"]["p99"],
        "predicted_mean_saving": 1 - laws["bounded"]["mean"] / laws["free"]["mean"],
        "measured_mean_saving": 1 - mean(bounded) / mean(free),
    }
    row["mean_error_points"] = 100 * (row["measured_mean_saving"] - row["predicted_mean_saving"])
    return row


def read_rows(path):
    """The table as written: every figure as text."""
    with path.open() as file:
        return list(csv.DictReader(file))


def bare(bound):
    return bound.replace("[", "").replace("]", "")


def num_kept_and_close(rows):
    """Of rows as written: how many kept their limit, and how many savings lie within a point of the predicted one."""
    kept = sum(row["kept"] == "True" for row in rows)
    return kept, sum(abs(float(row["error_points"])) <= 1 for row in rows)


def page(rows):
    """The Markdown below HEADING, from the rows of the table."""
    lines = [
        "| configuration | bound | largest peak of limit, MiB | saving (predicted) | of the mean step (predicted) |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        figure = {key: float(row[key]) for key in row if key not in ("configuration", "bound", "kept")}
        lines.append(
            f"| {row['configuration']} | {bare(row['bound'])} "
            f"| {figure['largest_peak_mib']:.2f} of {figure['limit_mib']:.2f} "
            f"| {figure['measured_saving']:.2%} ({figure['predicted_typical_saving']:.2%}) "
            f"| {figure['measured_mean_saving']:.2%} ({figure['predicted_mean_saving']:.2%}) |"
        )
    kept, close = num_kept_and_close(rows)
    worst = max(rows, key=lambda row: abs(float(row["error_points"])))
    lines += [
        "",
        f"Every step kept its limit in {kept} of {len(rows)}. The saving is within one point of the predicted one in "
        f"{close} of {len(rows)}; the largest error is {abs(float(worst['error_points'])):.2f} points "
        f"({worst['configuration']}).",
    ]
    return lines


def parser_of(description, heading):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of mmoe and mmoe-train")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="token files of mmoe data build, vocabulary 512")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="prefix of the table")
    parser.add_argument("--page", type=pathlib.Path, help=f"Markdown whose part under {heading!r} is written")
    parser.add_argument("--steps", type=int, default=2000)
    return parser


def main():
    parser = parser_of(__doc__.split("\n\n")[0], HEADING)
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, each on one thread")
    arguments = parser.parse_args()

    def row_of(configuration):
        name, (changes, saving) = configuration
        with tempfile.TemporaryDirectory() as folder:
            return measure(arguments.bin, arguments.data, name, changes, saving, arguments.steps, pathlib.Path(folder))

    rows = []
    pool = concurrent.futures.ThreadPoolExecutor(arguments.parallel)
    for row in pool.map(row_of, CONFIGURATIONS.items()):
        rows.append(row)
        name = row["configuration"]
        print(
            f"{name}: {row['bound']}, largest {row['largest_peak_mib']:.2f} of {row['limit_mib']:.2f} MiB, saving "
            f"{row['measured_saving']:.2%} ({row['predicted_typical_saving']:.2%} predicted), mean {row['measured_mean_saving']:.2%} "
            f"({row['predicted_mean_saving']:.2%})",
            flush=True,
        )
    path = arguments.out.with_suffix(".csv")
    write_csv(rows, COLUMNS, path)
    if arguments.page:
        write_section(arguments.page, HEADING, page(read_rows(path)))
    broken = [row["configuration"] for row in rows if not row["kept"]]
    print(f"promise kept in {len(rows) - len(broken)} of {len(rows)}" + (f"; broken: {', '.join(broken)}" if broken else ""))


if __name__ == "__main__":
    main()
