"""What analysis/io_speed.py makes of its measurements."""

import pathlib

import experiment
import io_speed


def test_rows_state_the_ratio_or_the_share():
    rows = [{"name": "a", "ours": 3.0, "theirs": 2.0}, {"name": "b", "share": 0.0015}]
    assert io_speed.page(rows)[2:] == ["| a | 3 | 2 | 1.50 |", "| b | 0.150% | | |"]


def test_measurements_take_turns():
    order = []
    times = iter([5.0, 1.0, 7.0, 3.0, 6.0, 2.0])

    def measured(name):
        order.append(name)
        return next(times)

    found = io_speed.alternating(3, {"x": lambda: measured("x"), "y": lambda: measured("y")})
    assert order == ["x", "y"] * 3
    assert found == {"x": 6.0, "y": 2.0}


def test_the_committed_page_holds_every_measurement():
    page = (pathlib.Path(io_speed.__file__).parent / "io_speed.md").read_text()
    lines = experiment.section(page, io_speed.HEADING)[1].strip().splitlines()
    names = [line.split("|")[1].split(":")[0].split(",")[0].strip() for line in lines[2:]]
    assert names == ["tokens", "the same", "loading", "data", "import"]
