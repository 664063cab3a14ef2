"""Every figure: what it computes from a run, that it draws, and that nothing in it overlaps or is cut."""

import subprocess
import sys

import allocation_figure
import drawing
import fake_run
import loss_by_k_figure
import loss_figure
import memory_figure
import operations_figure
import pytest
import report
import step_time_figure
import sum_k_figure
from load import Missing, load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_run.write_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def run(folder):
    return load_run(folder)


def name_of(figure):
    return figure.__name__


def undrawn_labels(figure):
    """Tick labels beyond their axis, which matplotlib keeps but does not draw."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)


def texts(figure):
    """(text, extent in pixels) of all drawn words of a figure."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    undrawn = set(undrawn_labels(figure))
    found = [
        text
        for text in figure.findobj(drawing.plt.Text)
        if text.get_text().strip() and text.get_visible() and text not in undrawn
    ]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


@pytest.mark.parametrize("figure", report.FIGURES, ids=name_of)
def test_words_do_not_overlap_and_stay_inside(figure, run):
    drawn = figure.draw(figure.compute(run))
    words = texts(drawn)
    width, height = drawn.canvas.get_width_height()
    for i, (text, box) in enumerate(words):
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, f"cut: {text}"
        for other, other_box in words[i + 1 :]:
            overlap = (
                min(box.x1, other_box.x1) - max(box.x0, other_box.x0),
                min(box.y1, other_box.y1) - max(box.y0, other_box.y0),
            )
            assert min(overlap) < 1, f"{text!r} overlaps {other!r}"
    drawing.plt.close(drawn)


@pytest.mark.parametrize("figure", report.FIGURES, ids=name_of)
def test_axes_carry_labels_with_units(figure, run):
    drawn = figure.draw(figure.compute(run))
    for axes in drawn.axes:
        assert axes.get_xlabel() or axes.get_ylabel()
    assert figure.caption(figure.compute(run)).endswith(".")
    drawing.plt.close(drawn)


@pytest.mark.parametrize("figure", report.FIGURES, ids=name_of)
def test_each_figure_is_a_program(figure, folder, tmp_path):
    out = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, figure.__file__, "--run", str(folder), "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    done = subprocess.run(
        [sys.executable, figure.__file__, "--run", "nowhere", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: no such folder") and done.stderr.count("\n") == 1


def test_memory_leaves_out_the_first_step(run):
    data = memory_figure.compute(run)
    assert data["steps"][0] == 2
    assert data["before"]["max"] > data["after"]["max"]


def test_step_time_leaves_out_the_warm_up(run):
    data = step_time_figure.compute(run)
    assert data["steps"][0] == 11
    assert max(data["measured"]) < 1
    assert data["after_interval"] == [0.36 * 1.003, 0.48 * 1.003]


def test_figures_draw_what_an_interrupted_run_has(tmp_path):
    run = load_run(fake_run.write_run(tmp_path / "run", without=("plan_calibrated.json", "loop.json")))
    for figure in (memory_figure, step_time_figure, loss_figure, loss_by_k_figure):
        data = figure.compute(run)
        drawing.plt.close(figure.draw(data))
        assert figure.caption(data)
    assert memory_figure.compute(run)["after"] is None


def test_running_median_is_centred():
    assert loss_figure.running_median([5, 1, 9, 2, 8], 3) == [3, 5, 2, 8, 5]


def test_losses_are_in_the_order_of_k(run):
    assert [k for k, _ in loss_by_k_figure.compute(run)["loss"]] == [1, 2, 3, 4, 5, 6]
    assert loss_by_k_figure.by_number({"10": 1, "9": 2}) == [(9, 2), (10, 1)]


def test_observed_sums_are_counted_by_group():
    metrics = [{"k_per_layer": [[1, 2, 3, 4], [1, 1, 1, 1]]}]
    metrics = [sum_k_part(line) for line in metrics]
    assert sum_k_figure.observed_sums(metrics, [4]) == [{10: 0.5, 4: 0.5}]
    assert sum_k_figure.observed_sums(metrics, [1, 3]) == [{1: 1.0}, {9: 0.5, 3: 0.5}]
    assert sum_k_figure.observed_sums(None, [4]) is None


def sum_k_part(line):
    from load import Part

    return Part(line, "metrics.jsonl")


def test_the_law_is_drawn_with_its_bound(run):
    data = sum_k_figure.compute(run)
    assert data["bound"] == [fake_run.BOUND]
    assert max(data["observed"][0]) <= fake_run.BOUND
    # 600 draws of a law of standard deviation 2.4: four standard errors of the mean are 0.4.
    assert abs(sum_k_figure.mean(data["observed"][0].items()) - sum_k_figure.mean(data["with"][0])) < 0.4


def test_without_a_budget_one_law_is_drawn(run):
    data = dict(sum_k_figure.compute(run), bound=[None])
    drawn = sum_k_figure.draw(data)
    assert len(drawn.axes[0].lines) == 1
    assert "with it" not in sum_k_figure.caption(data)
    drawing.plt.close(drawn)


@pytest.mark.parametrize(
    "interval, words",
    [
        ((-0.02, -0.01), "beats uniform k"),
        ((0.01, 0.02), "Uniform k is better"),
        ((-0.01, 0.01), "as good as"),
        (None, "no interval"),
    ],
)
def test_the_verdict_follows_the_interval(interval, words):
    assert words in allocation_figure.verdict({"verified": 3.9, "uniform": 3.91, "difference": interval})


def test_operations_are_summed_over_layers(run):
    data = operations_figure.compute(run)
    assert data["k"] == fake_run.K_MAX
    # The fake's experts: 4 layers x (0.5 + 1.5 x 6) ms forward, twice that backward.
    assert data["seconds"]["experts"]["forward"] == pytest.approx(4 * 9.5e-3)
    assert data["seconds"]["experts"]["backward"] == pytest.approx(8 * 9.5e-3)
    assert data["kept"]["experts"] == 4 * 9 * fake_run.MIB
    assert [k for k, _, _ in data["by_k"]] == list(range(1, 7))


def test_a_profile_without_operations_is_missing(tmp_path):
    folder = fake_run.write_run(tmp_path / "run", without=("profile.json",))
    (folder / "profile.json").write_text('{"operations": []}')
    with pytest.raises(Missing):
        operations_figure.compute(load_run(folder))


@pytest.mark.parametrize(
    "value, text",
    [(0, "0\u00a0B"), (640, "640.0\u00a0B"), (3.42 * 2**30, "3.420\u00a0GiB"), (1000 * 2**20, "1000\u00a0MiB")],
)
def test_bytes_are_printed_with_binary_units(value, text):
    assert drawing.bytes_text(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0.0123, "12.3\u00a0ms"), (4.5, "4.50\u00a0s"), (2e-6, "2.00\u00a0µs"), (125, "2 min 5 s"), (12e3, "3 h 20 min")],
)
def test_seconds_are_printed_for_people(value, text):
    assert drawing.seconds_text(value) == text


def test_long_series_are_thinned():
    steps, losses = drawing.thinned(list(range(100_000)), list(range(100_000)))
    assert len(steps) <= drawing.MAX_POINTS and steps == losses
