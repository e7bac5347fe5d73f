"""A small experiment to hand."""

from pathlib import Path

import pytest

from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Generated ratings, two training and three evaluation users a domain."""
    return Experiment(tmp_path, Settings(synthetic_users=20, train_users=2, eval_users=3, persona_words=40))
