"""The trainer as a command: `python -m deeper_assets.engines.training JOB.json` (see `job.TrainingJob`).

It runs alone, or under Dagster Pipes, in a process of its own so that all memory is free when it ends. Where
the job asks for several devices, that process starts one for each (`launching`).
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deeper_assets.engines.training import launching
from deeper_assets.engines.training.failures import FAILURE, KILLED, leave_reason, out_of_memory
from deeper_assets.engines.training.job import TrainingJob, read_job, refuse_missing
from deeper_assets.engines.training.output import sole_writer
from deeper_assets.engines.training.report import Progress, Reporter, TrainingReport
from deeper_assets.engines.training.train import LOG, train
from deeper_assets.method.exceptions import DeeperError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job of a file, alone or under Dagster Pipes; the exit status is 1 for an error."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if len(given) != 1:
            raise DeeperError("usage: python -m deeper_assets.engines.training JOB.json")
        _run(Path(given[0]))
    except DeeperError as error:
        if not _reports_to_another():
            print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if launching.rank() == 0:
            print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _run(config: Path) -> None:
    """Reads the job, then trains it here or starts the processes that do.

    Raises:
        DeeperError: see `train`; where another process waits for this one, a file beside CONFIG says it too.
    """
    if _reports_to_another():
        launching.end_with_parent()
    try:
        job = read_job(config)
        if launching.rank() > 0:
            _log_to(logging.NullHandler())  # the first process tells it
            _train(job, lambda _: None)
        elif (
            not launching.is_one_of_several()
            and (processes := launching.count_devices(job.hardware, job.device)) > 1
        ):
            _launch(job, config, processes)
        elif _under_pipes():
            _train_under_pipes(job)
        else:
            _log_to(logging.StreamHandler())
            done = _train(job, lambda progress: print(progress, file=sys.stderr, flush=True))
            print(f"adapter {done.adapter[:12]} after {done.steps} steps", file=sys.stderr)
    except DeeperError as error:
        if _reports_to_another():
            leave_reason(config, error)
        raise


def _launch(job: TrainingJob, config: Path, processes: int) -> None:
    """Trains in several processes.

    Raises:
        DeeperError: one of them failed; the reason it left behind, or how it ended.
    """
    reason = config.with_suffix(FAILURE)
    refuse_missing(job)
    job.output.mkdir(parents=True, exist_ok=True)
    reason.unlink(missing_ok=True)
    with sole_writer(job.output):
        pass  # until whoever trains there is done: processes that wait for each other do so for minutes only
    try:
        launching.launch("deeper_assets.engines.training", config, processes)
    except launching.Failed as error:
        if reason.exists():
            raise DeeperError(reason.read_text(encoding="utf-8")) from error
        if error.exit_code == -signal.SIGKILL:
            raise DeeperError(out_of_memory(job, KILLED)) from error
        raise DeeperError(f"training failed: {error}; its own words are on stderr") from error


def _train(job: TrainingJob, report: Reporter) -> TrainingReport:
    # Read by libraries when they are imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if Path(job.base).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not launching.is_one_of_several():  # one process, one GPU
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    warnings.filterwarnings("ignore")
    return train(job, report)


def _train_under_pipes(job: TrainingJob) -> None:
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        _log_to(*pipes.log.handlers)

        def report(progress: Progress) -> None:
            pipes.log.info(str(progress))
            pipes.report_custom_message(asdict(progress))

        try:
            done = _train(job, report)
        except DeeperError as error:
            pipes.log.error(str(error))
            raise
        pipes.report_custom_message({"kind": "report", **asdict(done)})


def _reports_to_another() -> bool:
    """Whether whoever started this process tells how it ended: Dagster, or the first of several processes."""
    return _under_pipes() or launching.is_one_of_several()


def _under_pipes() -> bool:
    return "DAGSTER_PIPES_CONTEXT" in os.environ


def _log_to(*handlers: logging.Handler) -> None:
    """What is told besides figures goes there."""
    LOG.setLevel(logging.INFO)
    LOG.handlers[:] = handlers
    LOG.propagate = False


if __name__ == "__main__":
    exit_status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status)  # taken down with the interpreter, Triton (of vLLM) complains of leaks
