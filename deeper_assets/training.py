"""Training inside a Dagster step: in a process of its own, so that all of its memory is free afterwards."""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass

import pandas as pd
from dagster import AssetExecutionContext, PipesSubprocessClient
from dagster._core.errors import DagsterPipesExecutionError

from deeper_assets.engines.training.failures import FAILURE, KILLED, out_of_memory
from deeper_assets.engines.training.job import read_job
from deeper_assets.engines.training.launching import PARENT
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.resources import Experiment, Objective, Trained
from deeper_assets.store.adapters import as_rows


@dataclass(frozen=True)
class PipesTrainer:
    """Trains in a subprocess whose progress stands in the page of the step's run."""

    experiment: Experiment

    def train(
        self,
        name: str,
        base: pd.DataFrame,
        start: pd.DataFrame | None,
        examples: pd.DataFrame,
        objective: Objective,
    ) -> Trained:
        """See `resources.Trainer`. The folder stays where it is, so a killed training goes on from there."""
        folder = self.experiment.home / "training" / name
        folder.mkdir(parents=True, exist_ok=True)
        examples.to_parquet(folder / "examples.parquet", index=False)
        job = {
            "base": self.experiment.base_folder(base),
            "examples": str(folder / "examples.parquet"),
            "output": str(folder),
            "adapter": None if start is None else str(self.experiment.adapter_folder(start)),
            "decoding": asdict(self.experiment.settings.evaluation_decoding),
            **asdict(objective),
        }
        config = folder / "job.json"
        config.write_text(json.dumps(job, indent=1), encoding="utf-8")
        failure = config.with_suffix(FAILURE)
        failure.unlink(missing_ok=True)
        try:
            with self.experiment.alone_on_gpu():
                run = PipesSubprocessClient().run(
                    command=[sys.executable, "-m", "deeper_assets.engines.training", str(config)],
                    context=AssetExecutionContext.get(),
                    # One thread, as everywhere: the order of sums is fixed then, and so is the adapter.
                    env={**os.environ, "OMP_NUM_THREADS": "1", PARENT: str(os.getpid())},
                )
        except DagsterPipesExecutionError as error:
            if failure.exists():
                raise DeeperError(failure.read_text(encoding="utf-8")) from error
            if str(error).endswith(f"code {-signal.SIGKILL}"):
                raise DeeperError(out_of_memory(read_job(config), KILLED)) from error
            raise
        messages = [message for message in run.get_custom_messages() if isinstance(message, dict)]
        history = json.loads((folder / "training_log.json").read_text(encoding="utf-8")) or messages
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return Trained(as_rows(folder / "adapter"), report, history)
