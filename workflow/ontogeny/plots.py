"""House style of the figures: readable in print and by colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

# Okabe & Ito (2008): told apart with every common form of colour blindness
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINESTYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (5, 5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"


def style() -> None:
    """Set the house style for the figures that follow. Text stays text in svg and pdf; files are byte-stable."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 4.0),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 200,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=PALETTE),
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "image.cmap": SEQUENTIAL,
            "svg.fonttype": "none",
            "svg.hashsalt": "ontogeny",
            "pdf.fonttype": 42,
        }
    )


def panel_labels(axes: Iterable[Axes]) -> None:
    """Mark panels a, b, c, … at their upper left."""
    for letter, ax in zip("abcdefghijklmnop", axes, strict=False):
        ax.set_title(f"{letter}", loc="left", fontweight="bold")


def band(
    ax: Axes,
    x: ArrayLike,
    low: ArrayLike,
    middle: ArrayLike,
    high: ArrayLike,
    label: str,
    color: str,
    **line: Any,
) -> None:
    """Draw a line with its interval as a band of the same colour."""
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(x, middle, color=color, label=label, **line)


def save(figure: plt.Figure, stem: str) -> None:
    """Write `stem`.pdf, .svg and .png without dates, so that the same figure gives the same bytes.

    The layout is solved once and then kept: solving it takes longer than drawing, and with a layout engine each file
    is drawn twice.
    """
    figure.draw_without_rendering()
    with mpl.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        figure.savefig(f"{stem}.pdf", metadata={"CreationDate": None, "ModDate": None})
        figure.savefig(f"{stem}.svg", metadata={"Date": None})
        figure.savefig(f"{stem}.png")
