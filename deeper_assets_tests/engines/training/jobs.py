"""Small training jobs, and what tests do with them."""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import torch

from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.report import Progress, Reporter
from deeper_assets.engines.training.train import train
from deeper_assets_tests.engines.tiny_policy import TINY_TRAINING

TRAINING = replace(TINY_TRAINING, lora_dropout=0.1)
ALL_AT_ONCE = replace(TRAINING, batch_size=64, examples_at_once=64, epochs=1, lora_dropout=0.0, warmup=0)

# Texts of one length, so that a mean over tokens is one over texts, whatever is batched with what.
LIKED = ["i like films", "i like teas", "i like cakes", "i like you"]
DISLIKED = ["i dislike films", "i never like", "you dislike teas", "i dislike cakes"]


class Stopped(Exception):
    pass


def ignore(_: Progress) -> None:
    pass


def stop_at(step: int) -> Reporter:
    """Stops a training as soon as it reports this step."""

    def stop(row: Progress) -> None:
        if row.step == step:
            raise Stopped

    return stop


def refuse(_: Progress) -> NoReturn:
    raise AssertionError("trained again")


def figures(job: TrainingJob) -> list[Progress]:
    told: list[Progress] = []
    train(job, told.append)
    return told


def read_report(output: Path) -> dict[str, Any]:
    return json.loads((output / "report.json").read_text())


def log_probability(base: Path, adapter: Path | None, prompt: str, completion: str) -> tuple[float, int]:
    """Of a completion, by transformers alone, and its number of tokens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    asked = tokenizer(f"<user> {prompt} <eos> <assistant>").input_ids
    ids = torch.tensor([asked + tokenizer(f"{completion} <eos>").input_ids])
    with torch.no_grad():
        logps = model.eval()(ids).logits[0, :-1].log_softmax(dim=-1)
    own = logps.gather(1, ids[0, 1:, None])[len(asked) - 1 :]
    return own.sum().item(), len(own)


def mean_nll(base: Path, rows: pd.DataFrame, column: str) -> float:
    """Mean negative log-likelihood of a token of the base model's."""
    scored = [log_probability(base, None, row["prompt"], row[column]) for _, row in rows.iterrows()]
    return -sum(logp for logp, _ in scored) / sum(tokens for _, tokens in scored)


def weights_of(adapter: Path) -> str:
    return sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


def configured(job: TrainingJob) -> Path:
    """The job's file, in its output folder."""
    job.output.mkdir(exist_ok=True)
    path = job.output / "job.json"
    path.write_text(json.dumps(asdict(job), default=str))
    return path


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "deeper_assets.engines.training", str(config)]


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
