"""The first iteration by the real graph, and a training by the real process, with a policy of real text."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from dagster import DagsterInstance

from deeper_assets.definitions import build_definitions
from deeper_assets.layers import load_settings
from deeper_assets.resources import Experiment, Objective

DOMAIN = "book"

JOBS = {"personas": DOMAIN, "pretraining": None, "iteration_1": DOMAIN}
"""Jobs in their order, with the partition."""


def experiment(home: Path, policy: Path, users: int, steps: int, **changed: Any) -> Experiment:
    """Profile `paper` with this policy, the embedded stand-in as chat model, and with what is `changed`.

    A small model writes much that is no persona, and no share of that stops it. A training takes so many
    optimizer steps, a pair each, and they are large: few have to change what the policy writes.
    """
    small = {
        "profile": "paper",
        "policy": str(policy),
        "chat": {"engine": "offline"},
        "sampler": {"engine": "transformers"},
        "synthetic_users": 8 * users,
        "train_users": users,
        "eval_users": 1,
        "training_domains": [DOMAIN],
        "unreadable_limit": 1,
        "training": {
            "batch_size": 1,
            "examples_at_once": 1,
            "epochs": steps / users,
            "learning_rate": 2e-3,
            "warmup": 1,
        },
    }
    return Experiment(home, load_settings(home, {**small, **changed}))


def make(of: Experiment, job: str) -> None:
    """Runs one of the jobs."""
    definition = build_definitions(of).resolve_job_def(job)
    with DagsterInstance.ephemeral() as instance:
        definition.execute_in_process(partition_key=JOBS[job], instance=instance)


def train(of: Experiment, output: Path) -> Mapping[str, Any]:
    """Trains on two texts of each context, whatever they are worth, in a process of its own; its report.

    The pairs that rewards would make are few: most texts cannot be used.
    """
    texts = of.warehouse.load("candidates_1").groupby("user_id")["persona"].agg(list)
    prompts = of.warehouse.load("contexts_1").set_index("user_id")["prompt"]
    pairs = pd.DataFrame(
        [(prompts[user], one, other, 0) for user, (one, other, *_) in texts.items()],
        columns=["prompt", "chosen", "rejected", "validation"],
    )
    output.mkdir()
    pairs.to_parquet(output / "examples.parquet", index=False)
    settings = of.settings
    job = {
        "base": settings.policy,
        "examples": str(output / "examples.parquet"),
        "output": str(output),
        "decoding": asdict(settings.evaluation_decoding),
        **asdict(Objective("pairwise", "start", settings.training, settings.seed, settings.hardware)),
    }
    config = output / "job.json"
    config.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "deeper_assets.engines.training", str(config)]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return dict(json.loads((output / "report.json").read_text(encoding="utf-8")))
