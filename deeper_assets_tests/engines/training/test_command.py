"""The trainer as a command, and the file of its job."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deeper_assets.engines.training.__main__ import main
from deeper_assets.engines.training.job import TrainingJob, read_job
from deeper_assets.engines.training.output import COMPLETE
from deeper_assets.engines.training.train import train
from deeper_assets_tests.engines.training.jobs import (
    TRAINING,
    command,
    configured,
    ignore,
    read_report,
    weights_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_a_job_is_read_as_it_was_written(job: TrainingJob) -> None:
    assert read_job(configured(job)) == job


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"losss": "lipo"}, "'losss' is unknown; did you mean 'loss'?"),
        (
            {"training": {"learningrate": 1}},
            "training: 'learningrate' is unknown; did you mean 'learning_rate'?",
        ),
        ({"hardware": {"device": 2}}, "hardware: 'device' is unknown; did you mean 'devices'?"),
        ({"loss": "dpo"}, "loss: Input should be 'pairwise', 'lipo' or 'softmax', got 'dpo'"),
        ({"training": {"batch_size": "many"}}, "training.batch_size: "),
    ],
)
def test_a_job_that_is_wrong_is_one_line_and_status_1(
    job: TrainingJob, capsys: pytest.CaptureFixture[str], change, fault: str
) -> None:
    path = configured(job)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main([str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: training job {path}: ")
    assert fault in line


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(job: TrainingJob, tmp_path: Path) -> None:
    longer = replace(job, training=replace(TRAINING, epochs=10))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    config = configured(longer)
    process = subprocess.Popen(command(config), env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not list(longer.output.glob(f"checkpoints/*/checkpoint-*/{COMPLETE}")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (longer.output / "adapter").exists()

    done = subprocess.run(command(config), env=environment, capture_output=True, text=True, check=True)
    report = read_report(longer.output)
    assert 4 <= report["resumed_from"] < 40
    expected, first, *_ = done.stderr.splitlines()
    assert expected.startswith("memory of a device: about ")
    assert first.startswith(f"training: step {report['resumed_from'] + 1}, ")
    whole = train(replace(longer, output=tmp_path / "whole"), ignore)
    assert report["adapter"] == whole.adapter == weights_of(longer.output / "adapter")
