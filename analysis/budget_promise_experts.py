"""Does a tuned budget keep its promise where experts lie on four ranks and routing is skewed?

A bound on the sum of k does not bound the rows of the busiest rank. Routing is made uneven on purpose: in a checkpoint of
a few steps, feature 0 of every token's embedding gets CONSTANT added, and in every router the weights of that feature of
the first rank's experts BIAS, which together favour these experts for every token. Embedding, routers and norms are
frozen, the learning rate is low and there is no load balancing loss, since training undoes it within some tens of steps.
A pilot from there measures the load in its last steps (--moe-metrics 1). `mmoe budget` then tunes a bound at 99 % for it
(training.moe.load = these lines of the pilot's metrics.jsonl), for a limit of the unbudgeted peak less a wanted saving.
From the pilot's checkpoint the job goes on with and without the bound on the same data, on four processes; every step's
peak of the busiest rank is compared with the limit. A third arm has the bound that is tuned for the same limit as if
routing were balanced ("blind").

  python3 analysis/budget_promise_experts.py --bin build/bin --data build/study/tokens \\
      --out analysis/budget_promise_experts --page analysis/budget_study.md
"""

import array
import json
import pathlib
import tempfile

import budget_promise
from budget_promise import CONFIDENCE, MIB, bare
from experiment import run, write_csv, write_section

RANKS, FIRST_STEPS, PILOT_STEPS, MEASURED_STEPS = 4, 20, 400, 100
STEPS_OF_A_LOAD = 20  # that `mmoe budget` adds up
CONSTANT, BIAS = 2, 0.15  # embeddings and routers have a standard deviation of 0.11 in the beginning
CHANGES = {
    "hardware.num_devices": RANKS,
    "training.global_batch_size": 32,  # a micro-batch of 8 sequences a rank
    "training.learning_rate": 1e-5,
    "training.load_balance_coefficient": 0,
    "training.freeze": ["embedding", "router", "norms"],
    "model.num_layers": 4,
}
CONFIGURATIONS = {  # changes of the job, and the saving that is asked for
    "replicas share a draw": ({"elastic.share": "replicas"}, 0.2),
    "replicas draw on their own": ({}, 0.2),
}
COLUMNS = (
    "configuration asked_saving load_factor bound steps limit_mib promised_peak_mib largest_peak_mib kept largest_load_factor "
    "loads_above predicted_typical_saving measured_saving error_points blind_bound blind_promised_peak_mib "
    "blind_largest_peak_mib blind_steps_above_limit"
).split()
HEADING = "### Runs on four expert-parallel ranks with skewed routing"


def job(changes):
    result = budget_promise.job({**CHANGES, **changes})
    result["parallelism"] = {"expert": RANKS}
    return result


def bias_routers(checkpoint):
    """Favours the first rank's experts in every router ([experts, hidden size], fp32) by way of a constant feature."""
    for path in checkpoint.glob("weights*.safetensors"):
        content = bytearray(path.read_bytes())
        size = int.from_bytes(content[:8], "little")
        for name, tensor in json.loads(content[8 : 8 + size]).items():
            if name != "embedding" and not name.endswith(".router"):
                continue
            begin, end = (8 + size + offset for offset in tensor["data_offsets"])
            weights = array.array("f", bytes(content[begin:end]))
            rows, columns = tensor["shape"]
            for row in range(rows if name == "embedding" else rows // RANKS):
                weights[row * columns] += CONSTANT if name == "embedding" else BIAS
            content[begin:end] = weights.tobytes()
        path.write_bytes(content)


def load_factors(folder):
    """By STEPS_OF_A_LOAD steps: rows of the busiest rank over balanced ones, of all layers and these steps together."""
    factors = []
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for begin in range(0, len(lines), STEPS_OF_A_LOAD):
        rows = [0] * RANKS
        for line in lines[begin : begin + STEPS_OF_A_LOAD]:
            for layer in json.loads(line)["moe"]:
                counts = layer["tokens_per_expert"]["by_expert"]
                for expert, count in enumerate(counts):
                    rows[expert * RANKS // len(counts)] += count
        factors.append(max(rows) / sum(rows) * RANKS)
    return factors


def measure(programs, data, name, changes, saving, steps, folder):
    path = folder / "job.json"

    def train(arm, changed, steps, *more):
        path.write_text(json.dumps(changed))
        words = ["--job", path, "--data", data, "--out", folder / arm, "--steps", steps, "--nproc", RANKS]
        options = ["--threads", 1, "--moe-metrics", 1, "--guard", "off", "--timeout", 600, *more]
        run(programs / "mmoe", "train", *words, *options, progress=False)

    def last(arm, steps):
        return folder / arm / "checkpoints" / f"step_{steps}"

    train("first", job(changes), FIRST_STEPS)
    bias_routers(last("first", FIRST_STEPS))
    train("pilot", job(changes), PILOT_STEPS, "--init", last("first", FIRST_STEPS))
    loaded = job(changes)
    measured = (folder / "pilot" / "metrics.jsonl").read_text().splitlines(keepends=True)[-MEASURED_STEPS:]
    (folder / "load.jsonl").write_text("".join(measured))
    loaded["training"]["moe"] = {"load": str((folder / "load.jsonl").resolve())}
    limit, plan, typical_free_peak = budget_promise.promise(programs, path, loaded, steps, saving)
    blind = budget_promise.tuned(programs, path, job(changes), steps, CONFIDENCE, "--memory-limit", limit)
    for arm, budget in (("free", None), ("bounded", plan["budget"]), ("blind", blind["budget"])):
        if arm == "blind" and not blind["budget_needed"]:
            continue
        changed = job(changes)
        if budget is not None:
            changed["elastic"]["budget"] = budget
        train(arm, changed, steps, "--init", last("pilot", PILOT_STEPS))
    free, bounded = budget_promise.peaks(folder / "free"), budget_promise.peaks(folder / "bounded")
    blind_peaks = budget_promise.peaks(folder / "blind") if blind["budget_needed"] else free
    factors = load_factors(folder / "bounded")
    return budget_promise.outcome(name, saving, steps, limit, plan, typical_free_peak, free, bounded) | {
        "load_factor": plan["expert_load_factor"],
        "largest_load_factor": max(factors),
        "loads_above": f"{sum(factor > plan['expert_load_factor'] for factor in factors)} of {len(factors)}",
        "blind_bound": budget_promise.bound_text(blind["budget"]) if blind["budget_needed"] else "none",
        "blind_promised_peak_mib": (blind if blind["budget_needed"] else blind["without"])["peak_allocated_bytes"] / MIB,
        "blind_largest_peak_mib": max(blind_peaks) / MIB,
        "blind_steps_above_limit": sum(peak > limit for peak in blind_peaks),
    }


def page(rows):
    """The Markdown below HEADING, from the rows of the table."""
    lines = [
        f"`analysis/budget_promise_experts.py`: experts on {RANKS} processes, routers in which the first rank's experts "
        f"win more often, no load balancing loss; the last {MEASURED_STEPS} of a pilot's {PILOT_STEPS} steps measure it, and the "
        f"bound is tuned for the most uneven {STEPS_OF_A_LOAD} of them. "
        '"Blind" is the bound tuned for the same limit as if routing were balanced.',
        "",
        "| configuration | rows of the busiest rank / balanced: tuned for, largest | bound | largest peak of limit, MiB "
        "| saving (predicted) | blind bound: promised, largest peak, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        texts = ("configuration", "bound", "blind_bound", "kept", "loads_above")
        figure = {key: float(row[key]) for key in row if key not in texts}
        lines.append(
            f"| {row['configuration']} | {figure['load_factor']:.2f}, {figure['largest_load_factor']:.2f} "
            f"| {bare(row['bound'])} | {figure['largest_peak_mib']:.2f} of {figure['limit_mib']:.2f} "
            f"| {figure['measured_saving']:.2%} ({figure['predicted_typical_saving']:.2%}) "
            f"| {bare(row['blind_bound'])}: {figure['blind_promised_peak_mib']:.2f}, {figure['blind_largest_peak_mib']:.2f} |"
        )
    kept, close = budget_promise.num_kept_and_close(rows)
    above, loads = (sum(int(row["loads_above"].split(" of ")[i]) for row in rows) for i in range(2))
    steps = sum(int(row["steps"]) for row in rows)
    blind = [int(row["blind_steps_above_limit"]) for row in rows]
    lines += [
        "",
        f"Every step kept its limit in {kept} of {len(rows)}; in {above} of {loads} stretches of {STEPS_OF_A_LOAD} steps "
        f"routing was more uneven than in the pilot, which no bound on the sum of k excludes. The saving is within one point of the predicted "
        f"one in {close} of {len(rows)}. The blind bound passes the limit in {sum(blind)} of {steps} steps.",
    ]
    return lines


def main():
    arguments = budget_promise.parser_of(__doc__.split("\n\n")[0], HEADING).parse_args()
    rows = []
    for name, (changes, saving) in CONFIGURATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            row = measure(arguments.bin, arguments.data, name, changes, saving, arguments.steps, pathlib.Path(folder))
        rows.append(row)
        print(
            f"{name}: {row['bound']} for {row['load_factor']:.2f}, largest {row['largest_peak_mib']:.2f} of "
            f"{row['limit_mib']:.2f} MiB at {row['largest_load_factor']:.2f}, blind {row['blind_largest_peak_mib']:.2f}",
            flush=True,
        )
    path = arguments.out.with_suffix(".csv")
    write_csv(rows, COLUMNS, path)
    if arguments.page:
        write_section(arguments.page, HEADING, page(budget_promise.read_rows(path)))


if __name__ == "__main__":
    main()
