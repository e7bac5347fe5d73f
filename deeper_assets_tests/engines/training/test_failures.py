from pathlib import Path

import pytest
import torch

from deeper_assets.engines.training.failures import Diverged, explained
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.method.recipes import Training


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out of memory (Out"),
        (MemoryError(), "out of memory (MemoryError); lower training.examples_at_once (now 4) or"),
        (OSError(12, "Cannot allocate memory"), "out of memory (OSError: [Errno 12]"),
        (RuntimeError("std::bad_alloc"), "out of memory (RuntimeError: std::bad_alloc)"),
        (OSError(28, "No space left on device", "checkpoint"), "no space to write in "),
        (OSError(122, "Disk quota exceeded"), "no space to write in "),
        (RuntimeError("[enforce fail at inline_container.cc:664]"), "no space to write in "),
        (RuntimeError("I/O error: File too large (os error 27)"), "no space to write in "),
        (RuntimeError("shape mismatch"), None),
    ],
)
def test_whichever_way_it_is_told(tmp_path: Path, error: Exception, told: str | None) -> None:
    job = TrainingJob("base", tmp_path / "examples", tmp_path, "lipo", seed=1, training=Training())
    message = explained(error, job)
    assert message is None if told is None else (message or "").startswith(told)
    wrapped = RuntimeError("while training")
    wrapped.__cause__ = error
    assert (explained(wrapped, job) or "")[:15] == (message or "")[:15]


def test_what_diverged_names_the_settings_to_change(tmp_path: Path) -> None:
    job = TrainingJob("base", tmp_path / "examples", tmp_path, "lipo", seed=1, training=Training())
    assert explained(Diverged("the loss is nan at step 3 of 8"), job) == (
        "training diverged: the loss is nan at step 3 of 8; lower training.learning_rate (now 5e-06) or "
        "max_grad_norm (now 1)"
    )
