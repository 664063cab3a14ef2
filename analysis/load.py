"""The files of one run folder, read once for every figure and the page. Nothing is computed here.

A part that an interrupted run has not written yet is None; a file that cannot be read is a DataError (one line,
exit 2).
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import Any

# Attribute of Run -> file in the run folder, and what makes it.
PARTS = {
    "job": ("job.json", "mmoe train or mmoe loop"),
    "plan": ("plan.json", "mmoe simulate --json"),
    "plan_calibrated": ("plan_calibrated.json", "mmoe simulate --calibration calibration.json --json"),
    "metrics": ("metrics.jsonl", "mmoe train"),
    "profile": ("profile.json", "mmoe profile"),
    "calibration": ("calibration.json", "mmoe calibrate"),
    "evaluation": ("eval.json", "mmoe eval --json"),
    "allocation": ("allocation.json", "mmoe allocate"),
    "budget": ("budget.json", "mmoe budget --json"),
    "loop": ("loop.json", "mmoe loop"),
}


class DataError(Exception):
    """The user's mistake: a folder or file that is missing, unreadable or lacks a key. One line."""


class Missing(Exception):
    """A figure's data is not in this run (yet); says which file, and what writes it."""


class Part(dict):
    """A JSON object of a named file, whose missing keys are errors that name the file."""

    def __init__(self, content, path):
        super().__init__(content)
        self.path = path

    def at(self, dotted_key):
        """The value at "memory.peak_allocated_bytes"; DataError when there is none."""
        value: Any = self
        for key in dotted_key.split("."):
            if not isinstance(value, dict) or key not in value:
                raise DataError(
                    f"{self.path}: key {dotted_key} is missing; make the file again with this version of mmoe"
                )
            value = value[key]
        return value

    def find(self, dotted_key, default=None):
        """The same for a key that may be absent."""
        value: Any = self
        for key in dotted_key.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return value


@dataclasses.dataclass
class Run:
    """One run folder. `metrics` is a list of one Part a step; `missing` names the files that are not there."""

    folder: pathlib.Path
    job: Part | None = None
    plan: Part | None = None
    plan_calibrated: Part | None = None
    metrics: list | None = None
    profile: Part | None = None
    calibration: Part | None = None
    evaluation: Part | None = None
    allocation: Part | None = None
    budget: Part | None = None
    loop: Part | None = None
    missing: list = dataclasses.field(default_factory=list)

    def need(self, *names):
        """The named parts; Missing for the first that is not there."""
        for name in names:
            if getattr(self, name) is None:
                raise Missing("{} is not in this run yet; {} writes it".format(*PARTS[name]))
        return [getattr(self, name) for name in names]


def read_json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the file or make it again") from None
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error}); make it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no JSON object; make it again")
    return Part(content, path)


def read_lines(path):
    """A JSON Lines file. A cut last line, as a killed run leaves it, is dropped."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the file or make it again") from None
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(Part(json.loads(line), path))
        except (ValueError, TypeError):
            if number == len(lines):
                break
            raise DataError(f"{path}: line {number} is no JSON; make the file again") from None
    return records or None


def load_run(folder):
    """Every part of the run that is there. DataError when `folder` is no run folder at all."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the --out of mmoe train or mmoe loop")
    run = Run(folder)
    for name, (file, _) in PARTS.items():
        path = folder / file
        if path.exists():
            setattr(run, name, read_lines(path) if file.endswith(".jsonl") else read_json(path))
        if getattr(run, name) is None:
            run.missing.append(file)
    if run.job and not run.job.find("elastic.budget") and "budget.json" in run.missing:
        run.missing.remove("budget.json")  # nothing writes it for a job without a budget
    if len(run.missing) == len(PARTS):
        raise DataError(f"{folder}: holds none of {', '.join(file for file, _ in PARTS.values())}; give a run folder")
    return run


def figure_main(module_doc, compute, draw):
    """The command line of a figure's script: --run FOLDER --out FILE.png (or .svg, .pdf)."""
    parser = argparse.ArgumentParser(description=module_doc.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run", required=True, help="run folder")
    parser.add_argument("--out", required=True, help="file to write: .png, .svg or .pdf")
    arguments = parser.parse_args()
    try:
        figure = draw(compute(load_run(arguments.run)))
        figure.savefig(arguments.out, dpi=150)
    except (DataError, Missing, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
