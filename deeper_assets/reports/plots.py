"""Plots of tables, as SVG that is small enough for a log which keeps every one of them."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from deeper_assets.method.errors import over_trainings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DRAWN = 100
"""At most so many figures of a training are drawn in one line."""


STYLES: Mapping[str, Mapping[str, Any]] = {
    "method": {"marker": "o", "linewidth": 2},
    "control": {"marker": ".", "linestyle": ":", "linewidth": 1.6},
    "ceiling": {"linestyle": "-.", "linewidth": 1.2},
    "floor": {"linestyle": "--", "linewidth": 1.2},
}
"""How the lines of each kind look."""


def mae_plot(table: pd.DataFrame, domain: str) -> str:
    """MAE by round (mae_table rows) of a domain or of `macro`, as SVG: a line a method, control or floor.

    Of a recipe that is trained several times the line is the mean.
    """
    # The object interface: pyplot would keep figures alive and pick a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), dpi=100)
    # Fixed margins, with room for the longest name on the right: laying them out costs more than drawing.
    axes = figure.add_axes((0.09, 0.13, 0.65, 0.77))
    rows = over_trainings(table[table["domain"] == domain]).sort_values("round")
    for kind, style in STYLES.items():
        for method, line in rows[rows["kind"] == kind].groupby("method", sort=True):
            axes.plot(line["round"], line["mae"], label=method, **style)
    axes.set_xlabel("round (updates behind the persona)")
    axes.set_ylabel("MAE on the next window, rating points")
    axes.set_title(f"{domain}: error of the next window by round")
    axes.set_xticks(sorted(rows["round"].unique()))
    axes.grid(alpha=0.25)
    if len(rows):
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _svg(figure)


def loss_plot(log: Sequence[Mapping[str, Any]]) -> str:
    """Loss and reward accuracy by optimizer step, side by side, as SVG; each for training and validation.

    A row of a training's log has kind, step, loss and reward_accuracy, among others. Of more than `DRAWN`
    rows of a kind, every second is drawn, or third, and so on, and always the last.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=100)
    left, right = figure.add_axes((0.08, 0.15, 0.4, 0.75)), figure.add_axes((0.57, 0.15, 0.4, 0.75))
    for kind, style in (("training", {"linewidth": 1.2}), ("validation", {"marker": "o", "linewidth": 2})):
        rows = [row for row in log if row["kind"] == kind][::-1]
        rows = rows[:: -(-len(rows) // DRAWN) or 1][::-1]
        for axes, value in ((left, "loss"), (right, "reward_accuracy")):
            axes.plot([row["step"] for row in rows], [row[value] for row in rows], label=kind, **style)
    for axes, name in ((left, "loss"), (right, "reward accuracy")):
        axes.set_xlabel("optimizer step")
        axes.set_title(name)
        axes.grid(alpha=0.25)
    left.legend(fontsize=8, frameon=False)
    return _svg(figure)


def _svg(figure: "Figure") -> str:
    """The figure as one line of SVG: text stays text, and places are known to a tenth of a point."""
    import matplotlib

    small: Any = {"svg.fonttype": "none", "svg.hashsalt": "deeper", "font.sans-serif": ["DejaVu Sans"]}
    buffer = io.StringIO()
    with matplotlib.rc_context(small):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    whole = re.sub(r"\s*\n\s*", " ", text[text.index("<svg") :]).strip()
    return re.sub(r'(?<= )(d|x|y|transform)="[^"]*"', lambda place: _TENTHS.sub(r"\1", place[0]), whole)


_TENTHS = re.compile(r"(\d\.\d)\d+")


def as_address(svg: str) -> str:
    """The image as an address that carries its own bytes."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def as_markdown(svg: str, title: str = "MAE by round") -> str:
    """The image as Markdown, as Dagster's UI shows it."""
    return f"![{title}]({as_address(svg)})"
