"""What the measuring scripts share."""

import sys

import pytest

import experiment

PAGE = "# Title\n\nDesign.\n\n## A\n\n### Runs\n\nold\n\n#### Detail\n\nold\n\n## Results\n\nlast\n"


def test_a_section_ends_at_the_next_heading_of_its_level_or_above():
    before, below, behind = experiment.section(PAGE, "### Runs")
    assert before.endswith("## A\n\n") and behind == "## Results\n\nlast\n"
    assert below == "\nold\n\n#### Detail\n\nold\n\n"
    assert experiment.section(PAGE, "## Results")[1] == "\nlast\n"
    assert experiment.section(PAGE, "## Runs") == (PAGE, "", "")


def test_writing_a_section_keeps_the_rest_of_the_page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    experiment.write_section(path, "### Runs", ["new", ""])
    assert path.read_text() == "# Title\n\nDesign.\n\n## A\n\n### Runs\n\nnew\n\n## Results\n\nlast\n"
    experiment.write_section(path, "## Results", ["newer"])
    assert path.read_text().endswith("### Runs\n\nnew\n\n## Results\n\nnewer\n")


def test_a_page_that_is_not_there_is_begun(tmp_path):
    experiment.write_section(tmp_path / "page.md", "## Results", ["one", "two"])
    assert (tmp_path / "page.md").read_text() == "## Results\n\none\ntwo\n"


def test_figures_are_written_with_six_digits(tmp_path):
    experiment.write_csv([{"a": "x, y", "b": 1 / 3, "c": 1234567}, {"a": "", "b": None, "c": True}], ["a", "b", "c"],
                         tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n"x, y",0.333333,1234567\n,,True\n'


def test_a_program_that_fails_ends_the_script(capfd):
    program = [sys.executable, "-c", "import sys; print('out'); print('why', file=sys.stderr); sys.exit(int(sys.argv[1]))"]
    assert experiment.run(*program, 0) == "out\n"
    with pytest.raises(SystemExit, match="ended with 3"):
        experiment.run(*program, 3)
    assert capfd.readouterr().err == "why\nwhy\n"
    with pytest.raises(SystemExit, match=": why"):
        experiment.run(*program, 3, progress=False)
    assert capfd.readouterr().err == ""
