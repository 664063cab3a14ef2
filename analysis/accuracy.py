"""Predicted against measured on jobs that no calibration has seen: step seconds and peak bytes of real training steps.

    python3 analysis/accuracy.py --run build/demo [--bin build/bin] [--steps 40] [--json]

Each job differs from the run's job in shape, draw or recomputation; `mmoe train` runs it on the run's token files, and
`mmoe simulate` predicts it with the run's calibration. Run it on an idle machine: times under load mean nothing.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

# What differs from the run's job, as flags of the job's keys. None of these shapes is among the profile's jobs.
JOBS = {
    "the job itself": {},
    "k = 1": {"elastic.k_max": 1, "elastic.budget": "none"},
    "k = 6": {"elastic.k_min": 6, "elastic.budget": "none"},
    "deeper, narrower experts": {
        "model.num_layers": 7,
        "model.expert_hidden_size": 48,
        "elastic.budget": "none",
    },
    "wider": {"model.hidden_size": 192, "model.num_heads": 6, "model.num_kv_heads": 6, "elastic.budget": "none"},
    "fewer, larger experts": {
        "model.num_experts": 8,
        "model.expert_hidden_size": 160,
        "model.num_layers": 3,
        "elastic.budget": "none",
    },
    "small micro-batches": {"training.micro_batch_size": 4, "elastic.budget": "none"},
    "full recomputation": {"training.recompute": "full", "elastic.budget": "none"},
    "expert recomputation": {"training.recompute": '["moe"]', "elastic.budget": "none"},
    "the job itself, again": {},  # another time than the first: the machine has changed its speed
}
WARM_UP_STEPS = 4


def mmoe(program, command, flags):
    """Runs one command and returns its JSON, or None for commands that print none."""
    words = [str(program), command]
    for name, value in flags.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"accuracy.py: {' '.join(words)}: {result.stderr.strip().splitlines()[-1]}")
    return json.loads(result.stdout) if result.stdout.lstrip().startswith("{") else None


def measure(program, flags, data, steps):
    """Median seconds and mean peak of the steps after warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        mmoe(program, "train", {**flags, "data": data, "out": f"{folder}/run", "steps": steps})
        lines = pathlib.Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines][WARM_UP_STEPS:]
    return statistics.median(m["seconds"] for m in measured), statistics.mean(m["peak_allocated_bytes"] for m in measured)


def compare(program, run, steps):
    rows = []
    for name, changes in JOBS.items():
        flags = {"job": run / "job.json", "loop.allocation_mean_k": 0, **changes}
        plan = mmoe(program, "simulate", {**flags, "calibration": run / "calibration.json", "json": True})
        seconds, peak = measure(program, flags, run / "data" / "tokens", steps)
        # Both are means over draws, so with few steps they differ by the draws' own spread too.
        predicted_peak = plan["elastic"]["peak_allocated_bytes"]["mean"]
        rows.append(
            {
                "job": name,
                "step_seconds": {"predicted": plan["throughput"]["step_seconds"], "measured": seconds},
                "peak_allocated_bytes": {"predicted": predicted_peak, "measured": peak},
            }
        )
    return rows


def error(row, quantity):
    return row[quantity]["predicted"] / row[quantity]["measured"] - 1


def print_table(rows):
    print(f"{'job':26}  {'step, ms':>17}  {'error':>7}  {'peak, MiB':>17}  {'error':>7}")
    print(f"{'':26}  {'predicted':>8} {'measured':>8}  {'':>7}  {'predicted':>8} {'measured':>8}")
    for row in rows:
        step, peak = row["step_seconds"], row["peak_allocated_bytes"]
        print(
            f"{row['job']:26}  {step['predicted'] * 1e3:8.1f} {step['measured'] * 1e3:8.1f}"
            f"  {error(row, 'step_seconds'):+7.1%}  {peak['predicted'] / 2**20:8.2f} {peak['measured'] / 2**20:8.2f}"
            f"  {error(row, 'peak_allocated_bytes'):+7.2%}"
        )
    for quantity in ("step_seconds", "peak_allocated_bytes"):
        errors = [abs(error(row, quantity)) for row in rows]
        print(f"{quantity}: mean absolute error {statistics.mean(errors):.2%}, largest {max(errors):.2%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="finished run folder of mmoe loop")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/bin"), help="folder of the programs")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for part in ("job.json", "calibration.json", "data/tokens.json"):
        if not (arguments.run / part).exists():
            print(f"accuracy.py: {arguments.run / part} is missing; finish mmoe loop first", file=sys.stderr)
            return 2
    rows = compare(arguments.bin / "mmoe", arguments.run, arguments.steps)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
