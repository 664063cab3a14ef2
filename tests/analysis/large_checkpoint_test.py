"""What analysis/large_checkpoint.py makes of its measurements."""

import pathlib
import sys

import experiment
import large_checkpoint


def test_a_commands_own_memory_is_measured():
    held = bytearray(256 << 20)  # of this process, which must not count
    for mebibytes in (32, 128):
        command = (sys.executable, "-I", "-c", f"bytearray(b'x') * ({mebibytes} << 20)")
        used = large_checkpoint.peak_gib(*command) * 1024
        assert mebibytes < used < mebibytes + 64
    assert held


def test_the_bound_is_of_the_longest_path():
    sizes = dict(hidden_size=10, intermediate_size=20, num_hidden_layers=3)
    assert large_checkpoint.fp32_bound(sizes) == 2 * 2.0**-24 * (3 * (4 * 20 + large_checkpoint.SEQ_LEN + 30) + 10)


def test_the_committed_page_shows_a_large_model_within_8_gib():
    page = (pathlib.Path(large_checkpoint.__file__).parent / "large_checkpoint.md").read_text()
    lines = experiment.section(page, large_checkpoint.HEADING)[1].strip().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[0] for row in rows] == ["fp32", "bf16"]
    for row in rows:
        assert float(row[1].split()[0]) > 1  # billions
        assert all(float(cell.split()[0]) < 8 for cell in row[2:5])
        assert float(row[5].split()[0]) <= float(row[6])
        assert row[7] == "yes"
