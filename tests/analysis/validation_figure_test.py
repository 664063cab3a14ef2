"""analysis/validation_figure.py on rows written by hand."""

import validation_figure


def test_points_are_grouped_by_framework_and_drawn(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "id,quantity,measured,predicted,framework\n"
        "a,step_seconds,1,1.1,nemo\nb,step_seconds,2,1.8,nemo\nc,static_bytes,5,5,nemo\nd,step_seconds,4,4,mmoe\n"
    )
    points = validation_figure.compute([rows])
    assert points == {"nemo": [(1, 1.1), (2, 1.8)], "mmoe": [(4, 4)]}
    assert abs(validation_figure.mean_error(points["nemo"]) - 0.1) < 1e-12
    validation_figure.draw(points).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
