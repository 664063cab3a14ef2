"""analysis/evidence_table.py on rows written by hand."""

import csv
import sys

import evidence_table


def test_runs_that_differ_in_nothing_compared_are_kept_once(tmp_path, monkeypatch):
    rows, out = tmp_path / "rows.csv", tmp_path / "evidence.csv"
    header = ["id", "stratum", *evidence_table.COLUMNS, "error_fraction"]
    common = dict.fromkeys(evidence_table.COLUMNS, "1")
    with open(rows, "w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for name, quantity in (("a", "step_seconds"), ("b", "step_seconds"), ("c", "fits"), ("d", "static_bytes")):
            writer.writerow({**common, "id": name, "quantity": quantity, "error_fraction": "0.1"})
    monkeypatch.setattr(sys, "argv", ["evidence_table.py", str(rows), "--out", str(out)])
    evidence_table.main()
    assert [row["id"] for row in csv.DictReader(open(out, newline=""))] == ["a", "d"]
