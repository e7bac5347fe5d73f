"""The UI before and after a change: `python -m deeper_assets_tests.benchmarks.workplace --before COMMIT`.

Measures a checkout of the commit and this tree side by side, in turn: seconds of `deeper run` over ten
domains without training, and of its first units; over that home, seconds until the UI answers, its memory
at rest, and seconds a partition of a backfill of ten domains; and megabytes of event log that ten
re-evaluations of eight partitions add. Prints a row a measure; of times, the median.
"""

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import socket
from typing import Any

from deeper_assets.engines.process_group import stop
from deeper_assets.method.domains import PAPER_DOMAINS
from deeper_assets_tests.benchmarks.whole_runs import memory_of, yardstick
from deeper_assets_tests.command import environment

REPOSITORY = Path(__file__).parents[2]
DOMAINS = [domain.name for domain in PAPER_DOMAINS]

AGAIN = """
from dagster import DagsterInstance, MultiPartitionKey
from deeper_assets.definitions import defs
with DagsterInstance.get() as instance:
    job = defs().resolve_job_def("evaluation")
    for _ in range(10):
        for domain in ("book", "recipe"):
            for method in ("full_regen", "slide_regen", "inc_update", "hier_merge"):
                key = MultiPartitionKey({"domain": domain, "method": method})
                assert job.execute_in_process(instance=instance, partition_key=key).success
"""
"""Ten re-evaluations, in the tree that is imported from."""


class Tree:
    """A checkout, and homes that it works on."""

    def __init__(self, folder: Path, scratch: Path):
        self.folder, self.scratch, self.homes = folder, scratch, 0

    def fresh(self) -> Path:
        """A home that is not there yet."""
        self.homes += 1
        return self.scratch / f"home-{self.homes}"

    def variables(self, home: Path) -> dict[str, str]:
        """What its commands are told; nothing is trained."""
        instance = str(home / "dagster")
        return environment(home, DAGSTER_HOME=instance, PYTHONPATH=str(self.folder))

    def call(self, home: Path, *arguments: object) -> None:
        """Runs Python with these arguments in the tree, to its end."""
        command = [sys.executable, *map(str, arguments)]
        subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables(home),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self, home: Path, *arguments: object) -> None:
        """`deeper run` of few users."""
        users = ("--train-users", "2", "--eval-users", "3")
        self.call(home, "-m", "deeper_assets.cli", "run", "--home", home, *users, *arguments)

    @contextmanager
    def ui(self, home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """The UI over a home that is there, by its address, from the moment its command was given."""
        with socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = ["-m", "deeper_assets.cli", "ui", "--home", str(home), "--port", port]
        if not (self.folder / "deeper_assets" / "ui.py").exists():  # before there was the command
            command = ["-m", "dagster", "dev", "-h", "127.0.0.1", "-p", port]
        with (self.scratch / "ui.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.variables(home),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield f"http://127.0.0.1:{port}", process
            finally:
                stop(process)  # `dagster dev` would go on where a shell has SIGINT ignored


def run_figures(tree: Tree, home: Path) -> dict[str, float]:
    """Seconds of `deeper run` over ten domains in a fresh home, and of its first units a partition."""
    started = time.time()
    tree.run(home)
    seconds = time.time() - started
    with sqlite3.connect(home / "dagster" / "history" / "runs.db") as runs:
        [(ended,)] = runs.execute("SELECT max(end_time) FROM runs WHERE pipeline_name = 'personas'")
    return {
        "seconds of deeper run": seconds,
        "seconds a partition of personas in it": (ended - started) / len(DOMAINS),
    }


def ui_figures(tree: Tree, home: Path) -> dict[str, float]:
    """Seconds to a page with all assets, memory at rest, and seconds a partition of a backfill."""
    started = time.monotonic()
    with tree.ui(home) as (address, process):
        until(lambda: bool(ask(address, "{ assetNodes { id } }")["assetNodes"]))
        first_page = time.monotonic() - started
        time.sleep(20)
        memory = memory_of(process.pid)
        started = time.monotonic()
        chosen = ("-j", "personas", "--partitions", ",".join(DOMAINS), "--noprompt")
        tree.call(home, "-m", "dagster", "job", "backfill", *chosen)
        until(lambda: finished(address) >= len(DOMAINS), 1200)
        backfill = time.monotonic() - started
    return {
        "seconds to the first page": first_page,
        "MB at rest": memory,
        "seconds a backfilled partition": backfill / len(DOMAINS),
    }


def finished(address: str) -> int:
    """How many runs of the backfill have succeeded."""
    results = ask(address, "{ runsOrError { ... on Runs { results { status tags { key } } } } }")
    runs = results["runsOrError"]["results"]
    ours = [run for run in runs if any(tag["key"] == "dagster/backfill" for tag in run["tags"])]
    if any(run["status"] == "FAILURE" for run in ours):
        raise SystemExit("a run of the backfill has failed")
    return sum(run["status"] == "SUCCESS" for run in ours)


def log_growth(tree: Tree) -> float:
    """MB that ten re-evaluations of eight partitions add to the home's Dagster instance."""
    home = tree.fresh()
    tree.run(home, "--domains", "book,recipe")
    before = size_of(home / "dagster")
    tree.call(home, "-c", AGAIN)
    return (size_of(home / "dagster") - before) / 1e6


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ask(address: str, query: str) -> Any:
    """What the server's GraphQL says."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["data"]


def until(done: Callable[[], bool], patience: float = 120) -> None:
    """Waits; a server that is not there yet refuses."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError):
            if done():
                return
        time.sleep(0.2)
    raise SystemExit(f"not done after {patience:g} s")


def measure(trees: Mapping[str, Tree], times: int) -> dict[str, dict[str, list[float]]]:
    """Every measure of every tree, by its name; the trees take turns."""
    figures: dict[str, dict[str, list[float]]] = {}

    def note(measure: str, tree: str, figure: float) -> None:
        figures.setdefault(measure, {}).setdefault(tree, []).append(figure)
        print(f"  {tree}, {measure}: {figure:.2f} (loop {yardstick():.1f} s)", file=sys.stderr, flush=True)

    for _ in range(times):
        homes = {name: tree.fresh() for name, tree in trees.items()}
        for part in (run_figures, ui_figures):
            for name, tree in trees.items():
                for measure, figure in part(tree, homes[name]).items():
                    note(measure, name, figure)
    for name, tree in trees.items():
        note("MB of event log after ten re-evaluations", name, log_growth(tree))
    return figures


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="commit to stand beside this tree")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="deeper-benchmark-"))
    checkout = scratch / "before"
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--detach", str(checkout), given.before], check=True, capture_output=True)
    try:
        for name in ("before", "now"):
            (scratch / f"of-{name}").mkdir()
        trees = {
            "before": Tree(checkout, scratch / "of-before"),
            "now": Tree(REPOSITORY, scratch / "of-now"),
        }
        figures = measure(trees, given.times)
    finally:
        subprocess.run([*git, "remove", "--force", str(checkout)], check=True)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{'':<45}{'before':>9}{'now':>9}   median of {given.times}, {os.cpu_count()} cores")
    for measure_, by_tree in figures.items():
        medians = [statistics.median(by_tree[name]) for name in trees]
        print(f"{measure_:<45}{medians[0]:>9.2f}{medians[1]:>9.2f}")


if __name__ == "__main__":
    main()
