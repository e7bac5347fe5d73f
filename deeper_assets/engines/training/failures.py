"""Why a training failed, and what to change."""

import shutil
from contextlib import suppress
from pathlib import Path

from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.method.exceptions import DeeperError, one_line

FAILURE = ".failure"
"""Suffix of the file beside the job's that says why a training failed: one line for people."""

KILLED = "killed by signal 9, as the system does when memory runs out"
"""The reason of a process that was killed and left none."""

_NO_MEMORY = (
    "MemoryError",
    "[Errno 12]",
    "DefaultCPUAllocator: can't allocate",
    "not enough memory",
    "bad_alloc",
    "Cannot allocate memory",
)
"""What Python, the system, torch and the C++ library say when memory runs out."""

_FULL = (
    *(f"{sign} {number}" for sign in ("[Errno", "os error") for number in (27, 28, 122)),
    "PytorchStreamWriter failed",
    "inline_container.cc",
)
"""What the system, safetensors and torch say when a write fails for want of space."""


class Diverged(Exception):
    """A loss or weight that is no number any more; `str()` says where."""


def explained(error: BaseException, job: TrainingJob) -> str | None:
    """What to tell the user of an error; None where it is no known way for a training to fail.

    That the disk is full or memory ran out may also be said by an error that this one comes from.
    """
    if isinstance(error, Diverged):
        return (
            f"training diverged: {error}; lower training.learning_rate (now {job.training.learning_rate:g}) "
            f"or max_grad_norm (now {job.training.max_grad_norm:g})"
        )
    if _shows(error, _FULL):
        free = shutil.disk_usage(job.output).free / 1e6
        return (
            f"no space to write in {job.output} ({free:.3g} MB are free): make room and start again; "
            "training goes on from its last checkpoint"
        )
    return out_of_memory(job, one_line(error)) if _shows(error, _NO_MEMORY) else None


def out_of_memory(job: TrainingJob, reason: str) -> str:
    """The message of a training that ran out of memory: the reason, and the settings to change."""
    return f"out of memory ({reason[:300]}); {memory_advice(job)}"


def memory_advice(job: TrainingJob) -> str:
    """The settings to change where memory does not suffice, with their present values."""
    training, hardware = job.training, job.hardware
    return (
        f"lower training.examples_at_once (now {training.examples_at_once}) or "
        f"training.max_length (now {training.max_length}); or set "
        f"hardware.gradient_checkpointing to true (now {str(hardware.gradient_checkpointing).lower()}), "
        f"hardware.sharding to fsdp (now {hardware.sharding}), "
        f"hardware.devices to more GPUs (now {hardware.devices})"
    )


def leave_reason(config: Path, error: DeeperError) -> None:
    """Writes the reason beside the job's file, where it reaches whoever waits for a process that fails.

    The first reason stays: where several processes train, the others fail because that one did.
    """
    with suppress(FileExistsError), config.with_suffix(FAILURE).open("x", encoding="utf-8") as file:
        file.write(str(error))


def _shows(error: BaseException | None, signs: tuple[str, ...]) -> bool:
    while error is not None:
        if any(sign in one_line(error) for sign in signs):
            return True
        error = error.__cause__ or error.__context__
    return False
