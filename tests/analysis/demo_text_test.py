"""The demo's text is whole, natural and the same each time (needs Debian's package bible-kjv)."""

import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "analysis" / "demo_text.py"

pytestmark = pytest.mark.skipif(
    shutil.which("bible") is None, reason="the program `bible` (package bible-kjv) is not installed"
)


def run(*arguments, **options):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "folder" / "bible.txt"
    done = run(path)
    assert done.returncode == 0, done.stderr
    assert [found.name for found in path.parent.iterdir()] == ["bible.txt"]
    return path.read_text(encoding="utf-8")


def test_is_the_whole_text_one_chapter_a_document(text):
    documents = text.split("\n\n")
    assert len(text.encode()) >= 4_000_000
    assert len(documents) == 1189
    assert sum(len(document.splitlines()) - 1 for document in documents) == 31102  # verses
    assert documents[0].startswith("Genesis 1\n1 In the beginning God created the heaven and the earth.\n2 And ")
    assert documents[-1].startswith("Revelation 22\n1 And he shewed me")
    assert documents[-1].endswith("be with you all. Amen.\n")


def test_is_the_same_each_time(text, tmp_path):
    again = tmp_path / "again.txt"
    assert run(again).returncode == 0
    assert again.read_text(encoding="utf-8") == text


def test_failures_are_one_line(tmp_path):
    into_folder = run(tmp_path)
    assert into_folder.returncode != 0
    assert into_folder.stderr.startswith("demo_text: error: ") and into_folder.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    without_program = run(tmp_path / "out.txt", env={"PATH": str(tmp_path)})
    assert without_program.returncode != 0
    assert "bible-kjv" in without_program.stderr and without_program.stderr.count("\n") == 1
