"""The page: self-contained, complete, honest about what is missing."""

import html.parser
import json
import re
import subprocess
import sys

import fake_run
import pytest
import report
from load import PARTS, load_run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report.page(load_run(fake_run.write_run(tmp_path_factory.mktemp("runs") / "demo")))


class Structure(html.parser.HTMLParser):
    """Open elements, images and links of a page; fails on tags that do not match."""

    VOID = {"meta", "img", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.images, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        self.links += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page):
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert len(structure.images) == len(report.FIGURES)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in structure.links)
    assert all(len(image["alt"]) > 40 for image in structure.images)
    assert not re.search(r"https?://|@import|<script", re.sub(r"base64,[^\"]*", "", page))


def test_the_summary_says_what_was_found(page):
    assert "before anything ran" in page
    assert "The allocation beats uniform k" in page
    assert "bits per byte" in page
    assert "save 8.1\u00a0% of the peak" in page


@pytest.mark.parametrize("file", [file for file, _ in PARTS.values()])
def test_a_missing_part_is_named(tmp_path, file):
    page = report.page(load_run(fake_run.write_run(tmp_path / "run", without=(file,))))
    assert f"Not in this run (yet): {file}." in page


def test_a_run_that_only_trained_still_has_a_page(tmp_path):
    only = {"job.json", "metrics.jsonl"}
    page = report.page(load_run(fake_run.write_run(tmp_path / "run", without=set(fake_run.files()) - only)))
    assert page.count("<figure>") == 1 and page.count("Not drawn") == len(report.FIGURES) - 1
    assert "not complete" in page


def test_the_same_run_gives_the_same_page(tmp_path):
    folder = fake_run.write_run(tmp_path / "run")
    assert report.page(load_run(folder)) == report.page(load_run(folder))


def test_names_are_escaped(tmp_path):
    page = report.page(load_run(fake_run.write_run(tmp_path / "a<b>&c")))
    assert "a&lt;b&gt;&amp;c" in page and "a<b>" not in page


def run_program(*arguments):
    return subprocess.run([sys.executable, report.__file__, *map(str, arguments)], capture_output=True, text=True)


def test_the_program_writes_the_page(tmp_path):
    folder = fake_run.write_run(tmp_path / "run")
    done = run_program("--run", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"report": str(folder / "report.html"), "missing": []}
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize(
    "arguments, message",
    [(("--run", "/nowhere"), "no such folder"), (("--run", "RUN", "--out", "/nowhere/x.html"), "cannot be written")],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    folder = fake_run.write_run(tmp_path / "run")
    done = run_program(*[str(folder) if word == "RUN" else word for word in arguments])
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
