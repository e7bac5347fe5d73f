"""Training on GPUs: in half precision, and in shards where there are two."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from deeper_assets.engines.training.__main__ import main
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets_tests.engines.tiny_policy import TINY_TRAINING, save_tiny_policy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]

TRAINING = replace(TINY_TRAINING, epochs=4.0, evaluate_every=100, bf16=True)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    base = save_tiny_policy(tmp_path / "base", hidden=64)
    rows = [("who are you ?", "i like films", "i never like", int(place > 15)) for place in range(20)]
    names = ["prompt", "chosen", "rejected", "validation"]
    pd.DataFrame(rows, columns=names).to_parquet(tmp_path / "pairs.parquet")
    hardware = Hardware(gradient_checkpointing=True, group_by_length=True)
    examples = tmp_path / "pairs.parquet"
    return TrainingJob(str(base), examples, tmp_path / "output", "pairwise", 7, TRAINING, hardware)


def trained(job: TrainingJob) -> tuple[dict[str, object], pd.DataFrame]:
    """The report and the log of the job, run as a command."""
    job.output.mkdir()
    config = job.output / "job.json"
    config.write_text(json.dumps(asdict(job), default=str))
    assert main([str(config)]) == 0
    report, log = (
        json.loads((job.output / name).read_text()) for name in ("report.json", "training_log.json")
    )
    return report, pd.DataFrame(log)


def test_one_gpu_trains_in_half_precision(job: TrainingJob) -> None:
    report, log = trained(job)
    assert report["device"] == torch.cuda.get_device_name()
    assert 0 < report["memory_peak"] < torch.cuda.get_device_properties(0).total_memory
    assert log["loss"].iloc[-1] < 0.6 * log["loss"].iloc[0]
    each = replace(job, output=job.output.with_name("each"))
    each = replace(each, hardware=replace(job.hardware, precompute_reference=False))
    _, other = trained(each)
    assert (log["loss"] - other["loss"]).abs().max() < 0.02


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs on this machine")
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_gpus_train_as_one_does(job: TrainingJob, sharding: str) -> None:
    _, one = trained(job)
    both = replace(job.hardware, devices=2, sharding=sharding)
    report, two = trained(replace(job, hardware=both, output=job.output.with_name("two")))
    assert report["devices"] == 2
    assert (one["loss"] - two["loss"]).abs().max() < 0.02
