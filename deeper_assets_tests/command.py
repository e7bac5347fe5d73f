"""The `deeper` command in a process of its own, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

SMALL = ["--domains", "book,grocery", "--train-users", "3", "--eval-users", "4"]


def environment(home: Path | None = None, **more: str) -> dict[str, str]:
    """The variables of a small experiment, which trains nothing unless `more` says so."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPER_", "DAGSTER_"))}
    small = {"DEEPER_SYNTHETIC_USERS": "24", "DEEPER_TRAIN_RECIPES": "[]"}
    return {**kept, **small, **({"DEEPER_HOME": str(home)} if home else {}), **more}


def command(*arguments: object) -> list[str]:
    """What starts the command with these arguments."""
    return [sys.executable, "-m", "deeper_assets.cli", *map(str, arguments)]


def deeper(*arguments: object, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would, in a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(**more), check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done
