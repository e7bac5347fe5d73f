"""What a training leaves in its output folder: checkpoints at first, in the end an adapter and a report."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from deeper_assets.engines.training import launching
from deeper_assets.engines.training.job import TrainingJob, file_hash
from deeper_assets.engines.training.report import Progress, TrainingReport

ADAPTER, REPORT, LOG, CHECKPOINTS = "adapter", "report.json", "training_log.json", "checkpoints"

WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""The two files of a PEFT adapter."""

COMPLETE = "complete"
"""File that a checkpoint gets last."""


@contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Waits until no other process trains in the folder: a run that was killed may have left one behind."""
    with (output / "lock").open("w") as lock:
        if launching.rank() == 0:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def finished(output: Path, identity: str) -> TrainingReport | None:
    """The report in the folder, if it is of the job with this identity and its adapter is still whole."""
    from pydantic import TypeAdapter

    try:
        report = TypeAdapter(TrainingReport).validate_json((output / REPORT).read_bytes())
        whole = report.adapter == file_hash(output / ADAPTER / WEIGHTS)
    except (OSError, ValueError):  # pydantic's errors are of this kind
        return None
    return report if whole and report.job == identity else None


def publish(
    output: Path, adapter: Mapping[str, bytes], rows: Sequence[Progress], report: TrainingReport
) -> None:
    """Puts a finished training in place of whatever was there; `report.json`, last, says that it is whole."""
    partial = output / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / ADAPTER).mkdir(parents=True)
        for name, content in adapter.items():
            (partial / ADAPTER / name).write_bytes(content)
        for name, value in ((LOG, [asdict(row) for row in rows]), (REPORT, asdict(report))):
            (partial / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    (output / REPORT).unlink(missing_ok=True)
    shutil.rmtree(output / ADAPTER, ignore_errors=True)
    for name in (ADAPTER, LOG, REPORT):
        (partial / name).rename(output / name)
    partial.rmdir()
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)


def checkpoint_folder(job: TrainingJob, identity: str) -> Path:
    """Where this job's checkpoints lie; those of other jobs are removed.

    Sharded ones have a form of their own, which only a sharded training can read.
    """
    form = "-fsdp" if launching.is_sharded(job.hardware) else ""
    folder = job.output / CHECKPOINTS / f"{identity[:16]}{form}"
    if launching.rank() == 0:
        remove_others(folder)
    return folder


def remove_others(kept: Path) -> None:
    """Removes all folders beside one."""
    for path in kept.parent.glob("*"):
        if path != kept:
            shutil.rmtree(path, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the most steps; None where there is none."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """After how many optimizer steps it was saved."""
    return int(checkpoint.name.removeprefix("checkpoint-"))
