"""What the scripts that measure share: running programs, the table of rows, the part of a page that a script writes."""

import csv
import os
import re
import subprocess


def run(*words, progress=True, environment=None):
    """Standard output of a program; SystemExit where it fails. Its messages go through, or without `progress` into that
    error alone. `environment`: variables beside those of this process."""
    words = list(map(str, words))
    messages = None if progress else subprocess.PIPE
    variables = {**os.environ, **(environment or {})}
    result = subprocess.run(words, env=variables, stdout=subprocess.PIPE, stderr=messages, text=True, check=False)
    if result.returncode != 0:
        reason = f" ended with {result.returncode}" if progress else f": {result.stderr.strip()}"
        raise SystemExit(" ".join(words) + reason)
    return result.stdout


def write_csv(rows, columns, path):
    """Rows (dictionaries) under a header, floats with six digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def section(text, heading):
    """(before, below, behind) a Markdown heading ("## Results"): what stands under it ends at the next heading of its
    level or above. A page without it is all `before`."""
    start = re.search(rf"^{re.escape(heading)}\n", text, re.MULTILINE)
    if start is None:
        return text, "", ""
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{heading.index(' ')}}} ", rest, re.MULTILINE)
    cut = end.start() if end else len(rest)
    return text[: start.start()], rest[:cut], rest[cut:]


def write_section(path, heading, lines):
    """Rewrites what stands under the heading; the rest of the page is kept, a page that is not there is begun."""
    before, _, behind = section(path.read_text() if path.exists() else "", heading)
    parts = [before.strip(), heading, "\n".join(lines).strip(), behind.strip()]
    path.write_text("\n\n".join(part for part in parts if part) + "\n")
