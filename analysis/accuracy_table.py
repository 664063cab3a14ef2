"""The README's table of errors on published runs, written from what `mmoe validate` says of every row.

  python3 analysis/accuracy_table.py [--bin build/bin] [--readme README.md]

Which rows a line of the table covers, and its held-out error (which takes a fit for each row or model that is left out),
stand in profiles/measured/accuracy_lines.json. With --readme the table under its heading there is replaced.
"""

import argparse
import csv
import gzip
import json
import pathlib
import re
import statistics
import tempfile

import experiment

MEASURED = pathlib.Path(__file__).resolve().parent.parent / "profiles" / "measured"
HEADING = "#### Mean absolute errors"
HEADER = ["runs", "quantity", "rows", "fitted", "held out", "bias, fitted"]


def validated(name, binaries):
    """Rows of one published table: by id its columns, and `mmoe validate`'s answer."""
    text = gzip.decompress((MEASURED / "published" / f"{name}.csv.gz").read_bytes()).decode()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"{name}.csv"
        path.write_text(text)
        answer = json.loads(experiment.run(f"{binaries}/mmoe", "validate", "--table", path, "--json", progress=False))
    return {row["id"]: row for row in csv.DictReader(text.splitlines())}, answer


def errors_of(part, tables):
    """Signed errors of the rows that one part of a line covers, as fractions."""
    columns, answer = tables[part["table"]]

    def covers(row):
        known = columns[row["id"]]
        return (
            row["quantity"] in part["quantities"]
            and re.fullmatch(part.get("strata", ".*"), row["stratum"])
            and float(known["mfu_pct"] or 0) >= part.get("least_mfu_pct", 0)
            and all(known[column] == value for column, value in part.get("where", {}).items())
            and not any(all(known[c] == value for c, value in other.items()) for other in part.get("except", []))
        )

    return [row["error_fraction"] for row in answer["rows"] if covers(row)]


def percent(fraction):
    return f"{100 * fraction:.1f}"


def joined(values, unit=" %"):
    return " / ".join(values) + unit


def cells(line, tables):
    """One line of the table; `parts` of it are told apart by slashes."""
    if "summary" in line:  # a classifier's
        summary = tables[line["summary"]][1]["summary"]["fits"]
        rows = f"{summary['count']}; {summary['count_60_to_100_gib']}"
        accuracy = f"{percent(summary['balanced_accuracy'])} %; {percent(summary['balanced_accuracy_60_to_100_gib'])} %"
        return [line["runs"], line["quantity"], rows, accuracy, line["held_out"], ""]
    errors = [errors_of(part, tables) for part in line["parts"]]
    fitted = joined([percent(statistics.fmean(map(abs, of_part))) for of_part in errors])
    if line.get("median"):
        fitted += f", median {percent(statistics.median(map(abs, errors[0])))} %"
    bias = joined([percent(statistics.fmean(of_part)) for of_part in errors])
    return [line["runs"], line["quantity"], joined([str(len(e)) for e in errors], ""), fitted, line["held_out"], bias]


def compute(binaries):
    """The table's lines in Markdown."""
    lines = json.loads((MEASURED / "accuracy_lines.json").read_text())
    names = {part["table"] for line in lines for part in line.get("parts", [])}
    tables = {name: validated(name, binaries) for name in sorted(names)}
    rows = [HEADER] + [cells(line, tables) for line in lines]
    texts = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows]
    return [texts[0], "|" + "---|" * len(HEADER), *texts[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/bin")
    parser.add_argument("--readme", type=pathlib.Path)
    arguments = parser.parse_args()
    table = compute(arguments.bin)
    if arguments.readme:
        experiment.write_section(arguments.readme, HEADING, table)
    else:
        print("\n".join(table))


if __name__ == "__main__":
    main()
