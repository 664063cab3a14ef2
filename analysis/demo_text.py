#!/usr/bin/env python3
"""Writes the demo's text: the King James Bible of Debian's package bible-kjv, one chapter a document.

Chapters are separated by blank lines; each has its name ("Genesis 1"), then a line a verse ("1 In the beginning ...").

    analysis/demo_text.py build/demo/bible.txt
"""

import argparse
import os
import re
import subprocess
import sys

MIN_BYTES = 4_000_000
WHOLE_TEXT = "gen1:1-rev22:21"


class DemoTextError(Exception):
    """One line for the user."""


def bible_output():
    """The whole text as `bible` prints it, one line a verse; the width 0 turns line breaks off."""
    try:
        done = subprocess.run(["bible", "-l0", WHOLE_TEXT], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    except FileNotFoundError:
        raise DemoTextError("the program `bible` is not installed; install the Debian package bible-kjv") from None
    except subprocess.CalledProcessError as error:
        raise DemoTextError(f"`bible -l0 {WHOLE_TEXT}` failed with status {error.returncode}; reinstall bible-kjv") from None
    return done.stdout.decode("utf-8")


def chapters(printed):
    """Yields each chapter's text: its name, then a "number text" line a verse."""
    heading, verses = None, []
    for line in printed.splitlines():
        verse = re.fullmatch(r"  ?(\d+) (.*)", line)
        if verse and heading:
            verses.append(f"{verse[1]} {verse[2].rstrip()}\n")
        elif line.strip():
            if not re.fullmatch(r".+ \d+", line):
                raise DemoTextError(f"`bible` printed a line that is neither a chapter's name nor a verse: {line[:60]!r}")
            if heading:
                yield heading + "\n" + "".join(verses)
            heading, verses = line, []
    if heading:
        yield heading + "\n" + "".join(verses)


def write_atomically(path, data):
    """Leaves an earlier file whole when writing fails."""
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("out", help="the text file to write; its folder is made")
    path = parser.parse_args().out
    documents = list(chapters(bible_output()))
    data = "\n".join(documents).encode("utf-8")
    if len(data) < MIN_BYTES:
        raise DemoTextError(f"`bible` printed only {len(data)} bytes of text, fewer than {MIN_BYTES}; reinstall bible-kjv-text")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    write_atomically(path, data)
    print(f"{path}: {len(documents)} chapters, {len(data)} bytes", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (DemoTextError, OSError) as problem:
        sys.exit(f"demo_text: error: {problem}")
