"""How every figure looks: sizes, colours, units on axes."""

import math
import sys

try:
    import matplotlib
except ImportError:
    print(
        f"mmoe: error: {sys.executable} has no matplotlib; run `source build/env.sh` first, or pip install matplotlib",
        file=sys.stderr,
    )
    sys.exit(2)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

# Okabe and Ito's colours: told apart with colour-blind eyes and in grey print.
MEASURED = "#222222"
BEFORE = "#D55E00"
AFTER = "#0072B2"
BUDGETED = "#0072B2"
FREE = "#E69F00"
PHASES = {"forward": "#0072B2", "backward": "#56B4E9", "recompute": "#E69F00", "update": "#009E73"}

plt.rcParams.update(
    {
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "svg.hashsalt": "mmoe",
    }
)

MAX_POINTS = 2000  # of one series: a long run stays a small figure


def panels(columns=1, width=8.0, height=3.6, **options):
    """A figure of `columns` axes side by side; (figure, list of axes)."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, **options)
    return figure, list(axes[0])


def whole_numbers(axis):
    """Ticks of `axis` (axes.xaxis or axes.yaxis) at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True))


def thinned(*series):
    """Every n-th entry of equally long lists, at most MAX_POINTS of them."""
    stride = max(1, -(-len(series[0]) // MAX_POINTS))
    return [entries[::stride] for entries in series]


def byte_unit(largest_bytes):
    """(bytes of one unit, its name) in which `largest_bytes` reads well."""
    for power, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if largest_bytes >= 2**power:
            return 2**power, name
    return 1, "B"


def second_unit(largest_seconds):
    """(seconds of one unit, its name)."""
    for size, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if largest_seconds >= size:
            return size, name
    return 1e-9, "ns"


def with_digits(value, digits=3):
    """`value` to so many significant digits, never in scientific notation: 0.0123, 4.50, 1234."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def bytes_text(value):
    """`3.420 GiB`. As in the texts below, a no-break space keeps number and unit on one line."""
    size, name = byte_unit(abs(value))
    return f"{with_digits(value / size, 4)}\u00a0{name}"


def seconds_text(value):
    """`123 ms`, `2 min 5 s`, `3 h 20 min`."""
    if value < 120:
        size, name = second_unit(abs(value))
        return f"{with_digits(value / size)}\u00a0{name}"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def percent_text(fraction, sign=True):
    """`+1.2 %`."""
    return f"{100 * fraction:+.1f}\u00a0%" if sign else f"{100 * fraction:.1f}\u00a0%"
