"""`deeper run` with the vLLM server that it starts itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling.gpu import LOG
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import deeper, environment
from deeper_assets_tests.vllm_cpu import stand_in_variables

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

PATIENCE = 300
"""Seconds that a run may take to begin to sample."""

SMALL = ["--domains", "book", "--train-users", "5", "--eval-users", "2"]
VARIABLES = {
    "DEEPER_SAMPLER__ENGINE": "vllm",
    "DEEPER_TRAINING_DOMAINS": '["book"]',
    "DEEPER_TRAIN_RECIPES": '["balanced"]',
    "DEEPER_CANDIDATES": "6",
    "DEEPER_TRAINING": '{"epochs": 1, "batch_size": 2, "examples_at_once": 2}',
}


def test_a_run_that_is_killed_takes_its_server_along(tmp_path: Path) -> None:
    """The server is a fake that speaks HTTP."""
    home = tmp_path / "home"
    log = home / "gpu" / LOG
    command = [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(home), *SMALL]
    run = subprocess.Popen(command, env=environment(**VARIABLES, **stand_in_variables()))
    until(lambda: log.exists() and "vLLM answers" in log.read_text())
    processes = family(home)
    assert len(processes) == 5
    run.kill()
    run.wait()
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes))
    assert "leaves: its parent has ended" in log.read_text()


@pytest.mark.timeout(1800)  # vLLM takes its time to start, three times
def test_a_run_ends_its_server_before_each_training_and_at_the_end(tmp_path: Path) -> None:
    vllm = os.environ.get("DEEPER_TEST_VLLM")
    if vllm is None:
        pytest.skip("DEEPER_TEST_VLLM names no interpreter: see deeper_assets_tests/vllm_cpu/setup.sh")
    home = tmp_path / "home"
    variables = {**VARIABLES, "DEEPER_POLICY": str(SHIPPED), **stand_in_variables(vllm)}
    deeper("run", "--home", home, *SMALL, **variables)
    assert family(home) == []
    log = (home / "gpu" / LOG).read_text()
    # Candidates of iteration 1; those of iteration 2, after Model 1; rounds of evaluation, after Model 2.
    assert log.count("starts vLLM") == 3
    assert log.count("leaves: it was sent away") == 3
    warehouse = Warehouse(home / "warehouse.duckdb")
    for iteration in (1, 2):
        prompts = warehouse.load(f"contexts_{iteration}")["prompt"].notna().sum()
        assert prompts > 0
        assert warehouse.load(f"candidates_{iteration}")["copies"].sum() == 6 * prompts
    assert {"deeper", "deeper_iteration_1", "frozen_policy"} <= set(warehouse.load("mae_table")["method"])


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
