"""Writes profiles/measured/evidence.csv: one line a measured run and quantity, for the nearest neighbours of predictions.

  mmoe validate --table TABLE.csv --csv ROWS.csv     (for each published table)
  python3 analysis/evidence_table.py ROWS.csv ... --out profiles/measured/evidence.csv

Runs that differ in nothing that is compared are kept once.
"""

import argparse
import csv

COLUMNS = ("framework", "device", "num_devices", "hidden_size", "num_layers", "num_experts", "seq_len", "precision",
           "tensor", "pipeline", "expert", "context", "quantity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    kept = {}
    for path in arguments.rows:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row["quantity"] != "fits":
                    kept.setdefault(tuple(row[column] for column in COLUMNS), row)
    with open(arguments.out, "w", newline="") as file:
        writer = csv.DictWriter(file, ("id", *COLUMNS, "error_fraction"), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


if __name__ == "__main__":
    main()
