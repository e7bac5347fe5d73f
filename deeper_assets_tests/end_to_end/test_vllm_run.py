"""`deeper run` with the vLLM server that it starts itself; the server is a fake that speaks HTTP."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deeper_assets.engines.sampling.gpu import LOG
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.end_to_end.conftest import deeper, environment
from deeper_assets_tests.vllm_cpu import stand_in_variables

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

PATIENCE = 300
"""Seconds that a run may take to begin to sample."""


def test_a_run_ends_its_server_before_trainings_and_when_it_ends_or_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    log = home / "gpu" / LOG
    variables = stand_in_variables() | {
        "DEEPER_SAMPLER__ENGINE": "vllm",
        "DEEPER_TRAINING_DOMAINS": '["book"]',
        "DEEPER_TRAIN_RECIPES": '["balanced"]',
        "DEEPER_CANDIDATES": "6",
        "DEEPER_TRAINING": '{"epochs": 1, "batch_size": 2, "examples_at_once": 2}',
    }
    small = ["run", "--home", str(home), "--domains", "book", "--train-users", "5", "--eval-users", "2"]

    run = subprocess.Popen([sys.executable, "-m", "deeper_assets.cli", *small], env=environment(**variables))
    until(lambda: log.exists() and "vLLM answers" in log.read_text())
    processes = family(home)
    assert len(processes) == 5
    run.kill()
    run.wait()
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes))

    before = log.read_text()
    deeper(*small, **variables)
    assert family(home) == []
    after = log.read_text().removeprefix(before)
    # Candidates of iteration 1, of iteration 2 after Model 1, rounds of evaluation after Model 2.
    assert after.count("starts vLLM") == 3
    assert after.count("leaves: it was sent away") == 3
    warehouse = Warehouse(home / "warehouse.duckdb")
    for iteration in (1, 2):
        prompts = warehouse.load(f"contexts_{iteration}")["prompt"].notna().sum()
        assert prompts > 0
        assert warehouse.load(f"candidates_{iteration}")["copies"].sum() == 6 * prompts


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def family(home: Path) -> list[psutil.Process]:
    """The server of a home, its keeper and what they have started."""
    keepers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(home / "gpu") in (process.info["cmdline"] or [])
    ]
    return [*keepers, *(child for keeper in keepers for child in keeper.children(recursive=True))]
