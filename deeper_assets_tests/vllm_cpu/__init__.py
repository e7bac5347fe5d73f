"""vLLM for tests and benchmarks: an environment of its own, models it takes, servers in it, and stand-ins."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "stand_in"
"""Folder of a package `vllm` that stands in for the one that is not installed."""


def stand_in_variables(python: str | None = None) -> dict[str, str]:
    """What has processes take the stand-in for vLLM: a fake, or vLLM in the environment of this interpreter.

    vLLM gets one thread, as the other samplers have, and no core of its own, which another server may have.
    """
    path = {"PYTHONPATH": os.pathsep.join([str(STAND_IN), str(REPOSITORY)])}
    if python is None:
        return path
    return path | {
        "STAND_IN_FOR": python,
        "HF_HUB_OFFLINE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less to start
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    }
