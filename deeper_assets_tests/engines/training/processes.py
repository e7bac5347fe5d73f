"""Trainings of several processes: what they are, and how tests wait for them and compare what they made."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.output import COMPLETE
from deeper_assets_tests.engines.tiny_policy import TINY_TRAINING

TRAINING = replace(TINY_TRAINING, examples_at_once=1)
TWO = Hardware(devices=2)

TRAINER = {
    "deeper_assets.engines.training",
    "deeper_assets_tests.engines.training.sharded_on_cpu",
}

OUT_OF_MEMORY = (
    "out of memory (killed by signal 9, as the system does when memory runs out); lower "
    "training.examples_at_once (now 1) or training.max_length (now 64); or set "
    "hardware.gradient_checkpointing to true (now false), hardware.sharding to fsdp (now none), "
    "hardware.devices to more GPUs (now {devices})"
)

LOSS, WEIGHT = 1e-5, 1e-3
"""How far figures and weights may be from those of one process: sums are rounded in another order, and AdamW
turns the difference of a tiny gradient into one of a whole step."""


def log_of(output: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads((output / "training_log.json").read_text()))


def weights_of(output: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(output / "adapter" / "adapter_model.safetensors")


def assert_alike(one: Path, other: Path) -> None:
    """The same figures at the same steps, and the same adapter, but for rounding."""
    logs = [log_of(output) for output in (one, other)]
    pd.testing.assert_frame_equal(*logs, rtol=LOSS, atol=LOSS)
    assert len(logs[0]) > 0
    weights = [weights_of(output) for output in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert (weight - weights[1][name]).abs().max().item() < WEIGHT, name


def processes_of(process: int) -> list[psutil.Process]:
    """Those that it has started to train, in the order of their ranks."""
    training = []
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            words = child.cmdline()
            if TRAINER.intersection(words) and "resource_tracker" not in " ".join(words):
                training.append((child.environ().get("RANK", ""), child.pid, child))
    return [child for _, _, child in sorted(training, key=lambda of: of[:2])]


def wait_for(happened: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while not happened():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


def checkpointed(output: Path) -> bool:
    return any(output.glob(f"checkpoints/*/checkpoint-*/{COMPLETE}"))


def killed(process: "subprocess.Popen[str]", output: Path) -> None:
    """Kills whoever started the training once there is a checkpoint, and waits until nobody trains."""
    with process:
        wait_for(lambda: checkpointed(output), process)
        training = processes_of(process.pid)
        process.kill()
    assert len(training) == 2
    assert psutil.wait_procs(training, timeout=60)[1] == []
    assert not (output / "adapter").exists()
