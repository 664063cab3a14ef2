#!/usr/bin/env python3
"""Runs every test of a build folder, C++ (ctest) then Python (pytest), and prints one plain count.

Each C++ test program writes GoogleTest's JSON to BUILD/test_results; its cases are counted from there, and a program
that crashes, times out or leaves no result counts as one failure. Exit status 1 if anything failed.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Tests run beside each other and start several ranks each: OpenMP threads that spin while they wait would take the
# cores from those that work.
ENVIRONMENT = dict(os.environ, OMP_WAIT_POLICY="passive")


class Count:
    """Cases passed, failed and skipped, with what to print about the latter two."""

    def __init__(self):
        self.passed = 0
        self.failures = []  # (name, text)
        self.skips = collections.Counter()  # reason -> cases

    def fail(self, name, text):
        self.failures.append((name, text.strip()))

    def line(self):
        skipped = sum(self.skips.values())
        return f"{self.passed} passed, {len(self.failures)} failed" + (f", {skipped} skipped" if skipped else "")


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def skip_reason(case_name, output):
    """What GTEST_SKIP said, from the printed text: the JSON of GoogleTest before 1.13 leaves it out."""
    found = re.search(re.escape(f"] {case_name}\n") + r".*: Skipped\n(.*)\n", output)
    return found.group(1).strip() if found else "no reason given"


def count_googletest(program, result, ended_well, output, count):
    """Adds one program's cases; `result` is its parsed JSON or None, `output` what it printed."""
    if result is None:
        count.fail(program, "ended without a result (crash, time-out or not built)\n" + output[-3000:])
        return
    failed = 0
    for suite in result.get("testsuites", []):
        for case in suite.get("testsuite", []):
            name = f"{program}: {suite['name']}.{case['name']}"
            if case.get("failures"):
                failed += 1
                count.fail(name, "\n".join(failure["failure"] for failure in case["failures"]))
            elif case.get("result") == "SKIPPED":
                count.skips[skip_reason(f"{suite['name']}.{case['name']}", output)] += 1
            elif case.get("status") == "NOTRUN":
                count.skips["disabled"] += 1
            else:
                count.passed += 1
    if not ended_well and failed == 0:
        count.fail(program, "ended with an error after its last case\n" + output[-3000:])


def run_cpp(build, jobs, timeout_seconds, count):
    results = build / "test_results"
    listing = subprocess.run(["ctest", "--test-dir", str(build), "--show-only=json-v1"], capture_output=True, text=True)
    if listing.returncode != 0:
        count.fail("ctest", "no tests in " + str(build) + "\n" + listing.stderr)
        return
    names = [test["name"] for test in json.loads(listing.stdout)["tests"]]
    if not names:
        count.fail("ctest", "no C++ test was built in " + str(build))
        return
    for name in names:
        (results / f"{name}.json").unlink(missing_ok=True)
    junit = results / "ctest.xml"
    junit.unlink(missing_ok=True)
    subprocess.run(
        [
            "ctest",
            "--test-dir",
            str(build),
            "-j",
            str(jobs),
            "--timeout",
            str(timeout_seconds),
            "--no-tests=error",
            "--test-output-size-passed",
            "50000",
            "--test-output-size-failed",
            "50000",
            "--output-junit",
            str(junit),
        ],
        env=ENVIRONMENT,
    )
    ended = {}
    if junit.exists():
        for case in ElementTree.parse(junit).getroot().iter("testcase"):
            ended[case.get("name")] = (case.get("status") == "run", case.findtext("system-out") or "")
    for name in names:
        ended_well, output = ended.get(name, (False, ""))
        try:
            result = json.loads((results / f"{name}.json").read_text())
        except (OSError, ValueError):
            result = None
        count_googletest(name, result, ended_well, output, count)


def run_python(build, count):
    junit = build / "test_results" / "pytest.xml"
    junit.unlink(missing_ok=True)
    environment = dict(ENVIRONMENT, MMOE_BINARY_DIR=str(build), PYTHONDONTWRITEBYTECODE="1")
    code = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            str(ROOT / "tests" / "pytest.ini"),
            f"--junitxml={junit}",
            str(ROOT / "tests"),
        ],
        cwd=ROOT,
        env=environment,
    ).returncode
    count_pytest(junit, code, count)


def count_pytest(junit, code, count):
    """Adds the cases of pytest's JUnit file; `code` is pytest's exit status (5: it found no test)."""
    before = len(count.failures)
    try:
        cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    for case in cases:
        name = f"{case.get('classname')}.{case.get('name')}"
        broken = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped")
        if broken:
            count.fail(name, broken[0].text or broken[0].get("message") or "")
        elif skipped is not None:
            count.skips[last_line(skipped.get("message") or "")] += 1
        else:
            count.passed += 1
    if code != 0 and len(count.failures) == before:
        count.fail("pytest", f"ended with status {code} without saying which test failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="C++ test programs at once")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one C++ test program may take")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    (build / "test_results").mkdir(parents=True, exist_ok=True)

    count = Count()
    run_cpp(build, arguments.jobs, arguments.timeout, count)
    run_python(build, count)

    for name, text in count.failures:
        print(f"\nFAILED {name}\n    " + text.replace("\n", "\n    "))
    if count.failures:
        print("\nFailed:")
        for name, _ in count.failures:
            print(f"  {name}")
    if count.skips:
        print("\nSkipped:")
        for reason, cases in count.skips.most_common():
            print(f"  {cases} x {reason}")
    print()
    (build / "test_results" / "count.txt").write_text(count.line() + "\n")
    print(count.line(), flush=True)
    return 1 if count.failures else 0


if __name__ == "__main__":
    sys.exit(main())
