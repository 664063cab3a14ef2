"""Does a tuned budget keep its promise where experts lie on four ranks and routing is skewed?

A bound on the sum of k does not bound the rows of the busiest rank. Routing is made uneven on purpose: in a checkpoint of
a few steps, feature 0 of every token's embedding gets CONSTANT added, and in every router the weights of that feature of
the first rank's experts BIAS, which together favour these experts for every token. Embedding, routers and norms are
frozen, the learning rate is 1e-7 and there is no load balancing loss, since training undoes it within some tens of steps,
and at 1e-5 routing has become another within some hundred: the pilot would measure another model.
A pilot from there measures the load by layer and k in its last steps (--moe-metrics 1). `mmoe budget` then tunes a bound
at 99 % for it (training.moe.load = these lines of the pilot's metrics.jsonl), for a limit of the unbudgeted peak less a
wanted saving. From the pilot's checkpoint the job goes on with and without the bound on the same data, on four processes;
every step's peak of the busiest rank is compared with the limit. A third arm has the bound that is tuned for the same limit
as if routing were balanced ("blind").

  python3 analysis/budget_promise_experts.py --bin build/bin --data build/study/tokens \\
      --work build/study/promise_experts --out analysis/budget_promise_experts --page analysis/budget_study.md
"""

import array
import json
import pathlib
import shutil

import budget_promise
from budget_promise import CONFIDENCE, MIB, bare
from experiment import run, write_csv, write_section

RANKS, FIRST_STEPS, PILOT_STEPS, MEASURED_STEPS = 4, 20, 220, 200
CONSTANT, BIAS = 2, 0.15  # embeddings and routers have a standard deviation of 0.11 in the beginning
CHANGES = {
    "hardware.num_devices": RANKS,
    "training.global_batch_size": 32,  # a micro-batch of 8 sequences a rank
    "training.learning_rate": 1e-7,
    "training.load_balance_coefficient": 0,
    "training.freeze": ["embedding", "router", "norms"],
    "model.num_layers": 4,
    "elastic.share": "replicas",
}
MODELS = {  # changes of the job
    "4 layers": {},
    "3 layers, 16 experts": {"model.num_layers": 3, "model.num_experts": 16, "elastic.k_min": 2, "elastic.k_max": 8},
}
CONFIGURATIONS = {  # model, and the saving that is asked for
    "4 layers, 12 experts, k 1 to 6, 2 %": ("4 layers", 0.02),
    "4 layers, 12 experts, k 1 to 6, 5 %": ("4 layers", 0.05),
    "4 layers, 12 experts, k 1 to 6, 10 %": ("4 layers", 0.1),
    "3 layers, 16 experts, k 2 to 8, 3 %": ("3 layers, 16 experts", 0.03),
    "3 layers, 16 experts, k 2 to 8, 5 %": ("3 layers, 16 experts", 0.05),
    "3 layers, 16 experts, k 2 to 8, 10 %": ("3 layers, 16 experts", 0.1),
}
COLUMNS = (
    "configuration asked_saving bound steps limit_mib promised_peak_mib largest_peak_mib kept promised_free_peak_mib "
    "largest_free_peak_mib predicted_typical_saving measured_saving error_points load_by_k load_by_k_after blind_bound "
    "blind_promised_peak_mib blind_largest_peak_mib blind_steps_above_limit"
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


class Runs:
    """The training runs of one model, each in a folder of its own; one that is there with all its steps is not repeated."""

    def __init__(self, programs, data, folder, changes):
        self.programs, self.data, self.folder, self.changes = programs, data, folder, changes
        folder.mkdir(parents=True, exist_ok=True)

    def train(self, arm, steps, changed, *more):
        metrics = self.metrics(arm)
        if metrics.exists() and len(metrics.read_text().splitlines()) == steps:
            return
        shutil.rmtree(self.folder / arm, ignore_errors=True)
        path = self.folder / f"{arm}.json"
        path.write_text(json.dumps(changed))
        words = ["--job", path, "--data", self.data, "--out", self.folder / arm, "--steps", steps, "--nproc", RANKS]
        options = ["--threads", 1, "--moe-metrics", 1, "--guard", "off", "--timeout", 600, *more]
        run(self.programs / "mmoe", "train", *words, *options, progress=False)

    def metrics(self, arm):
        return self.folder / arm / "metrics.jsonl"

    def last(self, arm, steps):
        return self.folder / arm / "checkpoints" / f"step_{steps}"

    def pilot(self):
        """The pilot's checkpoint, from which the arms go on."""
        if not self.last("pilot", PILOT_STEPS).exists():
            self.train("first", FIRST_STEPS, job(self.changes))
            bias_routers(self.last("first", FIRST_STEPS))
            self.train("pilot", PILOT_STEPS, job(self.changes), "--init", self.last("first", FIRST_STEPS))
        return self.last("pilot", PILOT_STEPS)

    def load_of(self, arm):
        """The arm's last MEASURED_STEPS steps as a file for training.moe.load."""
        path = self.folder / f"{arm}_load.jsonl"
        path.write_text("".join(self.metrics(arm).read_text().splitlines(keepends=True)[-MEASURED_STEPS:]))
        return path.resolve()


def by_k(plan):
    return " ".join(f"{factor:.2f}" for factor in plan["expert_load_by_k"])


def measure(runs, name, saving, steps):
    start = runs.pilot()
    path = runs.folder / "job.json"

    def loaded(arm):
        changed = job(runs.changes)
        changed["training"]["moe"] = {"load": str(runs.load_of(arm))}
        return changed

    limit, plan, typical_free_peak = budget_promise.promise(runs.programs, path, loaded("pilot"), steps, saving)
    blind = budget_promise.tuned(runs.programs, path, job(runs.changes), steps, CONFIDENCE, "--memory-limit", limit)

    def peaks(budget):
        changed = job(runs.changes)
        if budget is not None:
            changed["elastic"]["budget"] = budget
        arm = "free" if budget is None else f"{budget['kind']}_{budget['sum_k'][0]}"
        runs.train(arm, steps, changed, "--init", start)
        return arm, budget_promise.peaks(runs.folder / arm)

    (_, free), (arm, bounded) = peaks(None), peaks(plan["budget"])
    blind_needed = blind["budget_needed"]
    _, blind_peaks = peaks(blind["budget"] if blind_needed else None)
    after = budget_promise.tuned(runs.programs, path, loaded(arm), steps, CONFIDENCE, "--memory-limit", limit)
    return budget_promise.outcome(name, saving, steps, limit, plan, typical_free_peak, free, bounded) | {
        "promised_free_peak_mib": typical_free_peak / MIB,
        "largest_free_peak_mib": max(free) / MIB,
        "load_by_k": by_k(plan),
        "load_by_k_after": by_k(after),
        "blind_bound": budget_promise.bound_text(blind["budget"]) if blind_needed else "none",
        "blind_promised_peak_mib": (blind if blind_needed else blind["without"])["peak_allocated_bytes"] / MIB,
        "blind_largest_peak_mib": max(blind_peaks) / MIB,
        "blind_steps_above_limit": sum(peak > limit for peak in blind_peaks),
    }


def page(rows):
    """The Markdown below HEADING, from the rows of the table."""
    lines = [
        f"`analysis/budget_promise_experts.py`: experts on {RANKS} processes, routers in which the first rank's experts "
        f"win more often, no load balancing loss, replicas share their draws; the last {MEASURED_STEPS} of a pilot's "
        f"{PILOT_STEPS} steps measure the load by layer and k. \"Blind\" is the bound tuned for the same limit as if routing "
        "were balanced.",
        "",
        "| configuration | rows of the busiest rank / balanced by k: pilot; end of the run | bound | largest peak of limit "
        "(promised), MiB | saving (predicted) | blind bound: promised, largest peak, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        texts = ("configuration", "bound", "blind_bound", "kept", "load_by_k", "load_by_k_after")
        figure = {key: float(row[key]) for key in row if key not in texts}
        lines.append(
            f"| {row['configuration']} | {row['load_by_k']}; {row['load_by_k_after']} "
            f"| {bare(row['bound'])} | {figure['largest_peak_mib']:.2f} of {figure['limit_mib']:.2f} "
            f"({figure['promised_peak_mib']:.2f}) "
            f"| {figure['measured_saving']:.2%} ({figure['predicted_typical_saving']:.2%}) "
            f"| {bare(row['blind_bound'])}: {figure['blind_promised_peak_mib']:.2f}, {figure['blind_largest_peak_mib']:.2f} |"
        )
    kept, close = budget_promise.num_kept_and_close(rows)
    steps = sum(int(row["steps"]) for row in rows)
    blind = sum(int(row["blind_steps_above_limit"]) for row in rows)
    largest = max(abs(float(row["error_points"])) for row in rows)
    lines += [
        "",
        f"Every step kept its limit in {kept} of {len(rows)}. The saving is within one point of the predicted one in "
        f"{close} of {len(rows)}; the largest error is {largest:.2f} points. The blind bound passes the limit in {blind} "
        f"of {steps} steps.",
    ]
    return lines


def main():
    parser = budget_promise.parser_of(__doc__.split("\n\n")[0], HEADING)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder of the runs; those that are there are kept")
    arguments = parser.parse_args()
    rows = []
    for name, (model, saving) in CONFIGURATIONS.items():
        runs = Runs(arguments.bin, arguments.data, arguments.work / model.replace(",", "").replace(" ", "_"), MODELS[model])
        row = measure(runs, name, saving, arguments.steps)
        rows.append(row)
        print(
            f"{name}: {row['bound']}, largest {row['largest_peak_mib']:.2f} of {row['limit_mib']:.2f} MiB, saving "
            f"{row['measured_saving']:.2%} ({row['predicted_typical_saving']:.2%} predicted), blind "
            f"{row['blind_largest_peak_mib']:.2f}",
            flush=True,
        )
    path = arguments.out.with_suffix(".csv")
    write_csv(rows, COLUMNS, path)
    if arguments.page:
        write_section(arguments.page, HEADING, page(budget_promise.read_rows(path)))


if __name__ == "__main__":
    main()
