from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.train import train
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy
from deeper_assets_tests.engines.training.jobs import DISLIKED, LIKED, TRAINING, ignore


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policy") / "base")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    rows = [
        {
            "prompt": f"who are {'very ' * (place % 3)}you ?",
            "chosen": LIKED[place % 4],
            "rejected": DISLIKED[place % 3],
            "validation": int(place % 5 == 4),
        }
        for place in range(20)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("groups") / "groups.parquet"
    rows = [
        {
            "group": number,
            "prompt": f"who are {'very ' * (number % 3)}you ?",
            "completion": text,
            "reward": 1.0 - place / 2,
            "validation": int(number == 6),
        }
        for number in range(7)
        for place, text in enumerate([LIKED[number % 4], "the very often", DISLIKED[number % 4]])
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def job(base: Path, pairs: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(
        str(base), pairs, tmp_path / "output", "pairwise", seed=7, training=TRAINING, device="cpu"
    )


@pytest.fixture(scope="module")
def model_1(base: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter from a first iteration."""
    output = tmp_path_factory.mktemp("model_1")
    train(TrainingJob(str(base), pairs, output, "pairwise", 7, TRAINING, device="cpu"), ignore)
    return output / "adapter"


@pytest.fixture
def one_thread_and_no_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here as in the processes that are started: all scores are 0 at first, and last bits order them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
