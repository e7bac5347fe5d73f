"""Time and memory of `deeper run` from a fresh home: `python -m deeper_assets_tests.benchmarks.whole_runs`.

With `--data FOLDER` the published files and all evaluation users; without, the defaults. `--no-training`
leaves out policies. Prints the wall time of each run, its median, and the peak memory of the command and its
workers together; and, because shared machines are at times several times slower, how long a plain loop of
twenty million additions took just before.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from deeper_assets_tests.command import command, environment


def measure(arguments: list[str], training: bool) -> tuple[float, float]:
    """Seconds and peak memory (MB, unique to the process tree, sampled) of one run from a fresh home."""
    home = Path(tempfile.mkdtemp(prefix="deeper-benchmark-"))
    # A run as a user's, not as the tests': with the profile's own number of generated users, and recipes.
    variables = environment()
    del variables["DEEPER_SYNTHETIC_USERS"]
    if training:
        del variables["DEEPER_TRAIN_RECIPES"]
    call = command("run", "--home", home / "home", *arguments)
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen(call, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.5)
    seconds = time.monotonic() - started
    shutil.rmtree(home)
    if process.returncode:
        raise SystemExit(f"{' '.join(call)}: exit {process.returncode}")
    return seconds, peak


def yardstick() -> float:
    """Seconds of a loop that nothing but the machine's speed changes."""
    started, total = time.perf_counter(), 0
    for number in range(20_000_000):
        total += number
    return time.perf_counter() - started


def memory_of(pid: int) -> float:
    """MB held by a process and its children, shared pages counted once each."""
    total = 0.0
    try:
        parent = psutil.Process(pid)
        for one in [parent, *parent.children(recursive=True)]:
            total += one.memory_full_info().uss / 1e6
    except psutil.NoSuchProcess:
        pass
    return total


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of the published files")
    parser.add_argument("--train-users", default="100", help="a domain, at most; with --data")
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    everyone = ["--train-users", given.train_users, "--eval-users", "all"]
    arguments = ["--data", given.data, *everyone] if given.data else []
    figures = []
    for _ in range(given.times):
        loop = yardstick()
        seconds, peak = measure(arguments, training=not given.no_training)
        figures.append((seconds, peak))
        print(f"{seconds:7.1f} s  {peak:7.0f} MB  (loop {loop:.1f} s)", flush=True)
    median = statistics.median(seconds for seconds, _ in figures)
    print(
        f"median {median:.1f} s, peak {max(peak for _, peak in figures):.0f} MB, {psutil.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
