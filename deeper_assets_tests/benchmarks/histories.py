"""Histories at their real size: `python -m deeper_assets_tests.benchmarks.histories FORMAT --folder FOLDER`.

Windows of 3,000 users from generated files in three ways, in turn, each in a process of its own: by this
project without Dagster; by bare DuckDB statements that give the same rows; by a script in pandas that gives
the same windows and nothing else. DuckDB may take 2 GB in the first two. Prints a table, and draws seconds
and memory by size with `--plot`. The generated files stay in the folder.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeper_assets_tests.benchmarks.generated_files import write
from deeper_assets_tests.benchmarks.straightforward.ways import DOMAINS, USERS_A_SPLIT, WAYS
from deeper_assets_tests.benchmarks.whole_runs import yardstick

BARE = "bare DuckDB"


@dataclass(frozen=True)
class Measured:
    """One way, once: seconds without imports, highest memory of the process (MB), rows of the windows."""

    seconds: float
    peak: float
    rows: int


Figures = Mapping[tuple[int, str], Sequence[Measured]]
"""By number of ratings and way."""


def measure(way: str, format_: str, folder: Path) -> Measured:
    """Goes one way in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="windows-") as target:
        module = "deeper_assets_tests.benchmarks.straightforward.ways"
        command = [sys.executable, "-m", module, way, format_, str(folder), target]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}")
    return Measured(**json.loads(done.stdout))


def generated(format_: str, rows: int, folder: Path) -> Path:
    """The folder of files with so many ratings, which are written where they are not there."""
    path = folder / f"{format_}_{rows}"
    if not path.exists():
        unfinished = path.with_name(f"{path.name}_unfinished")
        write(format_, rows, unfinished)
        unfinished.rename(path)
    return path


def as_table(figures: Figures) -> str:
    """A row a size and way, as Markdown."""
    lines = [
        "| million ratings | way | seconds | against bare DuckDB | peak MB | rows of windows |",
        "| --- " * 6 + "|",
    ]
    for (ratings, way), runs in figures.items():
        seconds = [run.seconds for run in runs]
        middle = statistics.median(seconds)
        ratio = middle / statistics.median(run.seconds for run in figures[ratings, BARE])
        spread = f"{middle:.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        peak = max(run.peak for run in runs)
        lines.append(
            f"| {ratings / 1e6:g} | {way} | {spread} | {ratio:.2f} | {peak:,.0f} | {runs[0].rows:,} |"
        )
    return "\n".join(lines)


def plot(figures: Figures, title: str, path: Path) -> None:
    """Draws median seconds and highest memory by size, a line a way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    for way in WAYS:
        sizes = [ratings for ratings, other in figures if other == way]
        runs = [figures[ratings, way] for ratings in sizes]
        millions = [ratings / 1e6 for ratings in sizes]
        middles = [statistics.median(run.seconds for run in each) for each in runs]
        seconds.plot(millions, middles, "o-", label=way)
        memory.plot(millions, [max(run.peak for run in each) / 1e3 for each in runs], "o-", label=way)
    for axes, what in ((seconds, "seconds"), (memory, "GB at most")):
        axes.set(xlabel="million ratings", ylabel=what)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    seconds.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path)


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", choices=sorted(DOMAINS))
    parser.add_argument("--folder", type=Path, required=True, help="of generated files")
    parser.add_argument("--millions", type=float, nargs="+", default=[2.0], help="of ratings")
    parser.add_argument("--pandas-millions", type=float, default=100.0, help="of ratings for pandas, at most")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="a .png or .svg to draw to")
    told = parser.parse_args()
    figures: dict[tuple[int, str], list[Measured]] = {}
    for millions in told.millions:
        ratings = round(millions * 1e6)
        folder = generated(told.format, ratings, told.folder)
        ways = [way for way in WAYS if way != "pandas" or millions <= told.pandas_millions]
        for _ in range(told.times):
            loop = yardstick()
            for way in ways:
                one = measure(way, told.format, folder)
                figures.setdefault((ratings, way), []).append(one)
                about = f"{one.seconds:7.1f} s  {one.peak:7,.0f} MB  (loop {loop:.1f} s)"
                print(f"{millions:6g} million  {way:<14}{about}", file=sys.stderr, flush=True)
    print(as_table(figures))
    if told.plot is not None:
        plot(figures, f"{told.format}: windows of {2 * USERS_A_SPLIT:,} users", told.plot)


if __name__ == "__main__":
    main()
