"""The trainer's figures and steps, by values that were worked out otherwise."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from deeper_assets.engines.training.examples import read_groups, tokenized
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.policies import load_base, load_tokenizer, lora_config
from deeper_assets.engines.training.steps import plan_steps
from deeper_assets.engines.training.train import train
from deeper_assets.engines.training.trainer import PreferenceTrainer
from deeper_assets_tests.engines.training.jobs import (
    ALL_AT_ONCE,
    TRAINING,
    figures,
    ignore,
    log_probability,
    mean_nll,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def trainer_of(job: TrainingJob) -> PreferenceTrainer:
    tokenizer = load_tokenizer(job.base)
    examples = tokenized(read_groups(job.examples, job.loss), tokenizer, job.training.max_length, job.loss)
    plan = plan_steps(job.training, len(examples.training), 1)
    base = load_base(job.base, torch.float32)
    return PreferenceTrainer(job, plan, examples, base, tokenizer, job.output, ignore, gpu=False)


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Pairs whose texts have from two tokens to twelve."""
    rows = [
        {
            "prompt": f"who are {'very ' * place}you ?",
            "chosen": "films " + "and teas " * (5 - place),
            "rejected": "i " * (1 + 2 * place),
            "validation": 0,
        }
        for place in range(6)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "uneven.parquet")
    return tmp_path / "uneven.parquet"


# ---------------------------------------------------------------------------------------------- the losses


def test_pairs_have_the_loss_and_the_gradients_of_trls_own_dpo(job: TrainingJob, uneven: Path) -> None:
    """As groups of two, read with one prompt for both; TRL reads a row for each."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    training = replace(ALL_AT_ONCE, examples_at_once=6, batch_size=6)
    ours = trainer_of(replace(job, examples=uneven, training=training))
    ours.take_reference()
    rows = pd.read_parquet(uneven)
    texts = {
        name: [[{"role": role, "content": text}] for text in rows[name]]
        for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    }
    theirs = DPOTrainer(
        model=load_base(job.base, torch.float32),
        processing_class=load_tokenizer(job.base),
        peft_config=lora_config(training),
        train_dataset=Dataset.from_dict(texts),
        args=DPOConfig(
            output_dir=str(job.output),
            beta=training.beta,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, training.sft_weight],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
    )
    slopes, losses = [], []
    torch.manual_seed(1)
    moved = {  # away from the reference, to where some pairs are in order and some are not
        name: 0.2 * torch.randn_like(weight)
        for name, weight in ours.model.named_parameters()
        if weight.requires_grad
    }
    for trainer in (ours, theirs):
        for name, weight in trainer.model.named_parameters():
            if weight.requires_grad:
                weight.data.copy_(moved[name])
        trainer.model.train()
        batch = trainer.data_collator(list(trainer.train_dataset))
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        losses.append(loss)
        slopes.append({name: trainer.model.get_parameter(name).grad for name in moved})
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-4, atol=1e-6)
    for name in ("rewards/accuracies", "rewards/margins"):
        assert ours._metrics["train"][name] == pytest.approx(theirs._metrics["train"][name], rel=1e-5)
    assert abs(ours._metrics["train"]["rewards/margins"][0]) > 0.01
    assert 0 < ours._metrics["train"]["rewards/accuracies"][0] < 1


def test_the_likelihood_is_a_mean_over_tokens_whatever_the_length_of_a_text(
    job: TrainingJob, base: Path, uneven: Path
) -> None:
    by_text = replace(job, examples=uneven, training=ALL_AT_ONCE)
    rows = pd.read_parquet(uneven)
    of_texts = [
        -logp / tokens
        for logp, tokens in (
            log_probability(base, None, row["prompt"], row["chosen"]) for _, row in rows.iterrows()
        )
    ]
    assert abs(sum(of_texts) / len(of_texts) - mean_nll(base, rows, "chosen")) > 0.01  # a mean over texts
    first = figures(by_text)[0]
    assert first.loss == pytest.approx(math.log(2) + 0.1 * mean_nll(base, rows, "chosen"), abs=1e-5)


def test_pairs_start_at_log_2_plus_the_likelihood_of_the_chosen(job: TrainingJob, base: Path) -> None:
    first = figures(replace(job, training=ALL_AT_ONCE))[0]
    rows = pd.read_parquet(job.examples).query("validation == 0")
    assert first.loss == pytest.approx(math.log(2) + 0.1 * mean_nll(base, rows, "chosen"), abs=1e-4)
    assert (first.step, first.reward_margin) == (1, pytest.approx(0, abs=1e-5))


def test_groups_start_at_their_loss_of_equal_scores(job: TrainingJob, base: Path, groups: Path) -> None:
    whole = replace(job, examples=groups, loss="softmax", training=ALL_AT_ONCE)
    best = pd.read_parquet(groups).query("validation == 0 and reward == 1")
    nll = 0.1 * mean_nll(base, best, "completion")
    assert figures(whole)[0].loss == pytest.approx(math.log(3) + nll, abs=1e-4)
    # Gains 1, 0.707107, 0.5; equal scores may take the discounts 1.442695, 0.910239, 0.721348 in any order.
    lipo = (figures(replace(whole, loss="lipo"))[0].loss - nll) / math.log(2)
    ranks = [1.442695, 0.910239, 0.721348]
    sums = {
        0.292893 * abs(a - b) + 0.5 * abs(a - c) + 0.207107 * abs(b - c)
        for a in ranks
        for b in ranks
        for c in ranks
        if len({a, b, c}) == 3
    }
    assert min(sums) - 1e-3 < lipo < max(sums) + 1e-3


@pytest.mark.parametrize("loss", ["pairwise", "lipo", "softmax"])
def test_training_learns_what_is_easy(job: TrainingJob, groups: Path, loss) -> None:
    examples = job.examples if loss == "pairwise" else groups
    training = replace(TRAINING, epochs=6)
    rows = figures(replace(job, loss=loss, examples=examples, training=training))
    learned = [row for row in rows if row.kind == "training"]
    assert learned[-1].loss < 0.6 * learned[0].loss
    last = rows[-1]
    assert last.kind == "validation"
    # The softmax form sets the best before the others and those in no order, so one pair of three is open.
    assert last.reward_accuracy >= (0.66 if loss == "softmax" else 1)
    assert last.reward_margin > 1
    assert last.step == learned[-1].step


def test_validation_is_a_mean_over_examples_not_over_batches(job: TrainingJob, base: Path) -> None:
    """Four examples, three at once: the batch of one counts a quarter."""
    training = replace(TRAINING, batch_size=3, examples_at_once=3, epochs=1, sft_weight=0)
    last = figures(replace(job, training=training))[-1]
    adapter = job.output / "adapter"
    margins = []
    for _, row in pd.read_parquet(job.examples).query("validation == 1").iterrows():
        scores = [
            log_probability(base, adapter, row["prompt"], row[column])[0]
            - log_probability(base, None, row["prompt"], row[column])[0]
            for column in ("chosen", "rejected")
        ]
        margins.append(0.5 * (scores[0] - scores[1]))
    assert len(margins) == 4
    assert last.reward_margin == pytest.approx(sum(margins) / 4, abs=1e-4)
    assert last.loss == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in margins) / 4, abs=1e-4)


# ---------------------------------------------------------------------------------------------- the steps


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As logged and as the optimizer has it: 16 examples, 4 a step, 5 epochs; 4 of 20 steps warm up."""
    step, used = torch.optim.AdamW.step, []

    def recorded(optimizer: torch.optim.AdamW, *given: Any) -> Any:
        used.extend({group["lr"] for group in optimizer.param_groups})
        return step(optimizer, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    rows = figures(replace(job, training=replace(TRAINING, epochs=5, warmup=0.2)))
    rising = [0.02 * done / 4 for done in range(4)]
    falling = [0.02 * (1 + math.cos(math.pi * done / 16)) / 2 for done in range(16)]
    assert [row.learning_rate for row in rows if row.kind == "training"] == pytest.approx(rising + falling)
    assert used == pytest.approx(rising + falling)


def test_weights_move_by_adams_step_alone_and_do_not_decay(job: TrainingJob) -> None:
    """AdamW's first step has the size of the learning rate wherever there is a gradient; A has none yet."""
    trainer = trainer_of(replace(job, training=replace(ALL_AT_ONCE, learning_rate=0.01)))
    trainer.take_reference()
    weights = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    trainer.train()
    assert trainer.state.max_steps == 1
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0}
    moved: dict[str, list[float]] = defaultdict(list)
    for name, weight in weights.items():
        moved["A" if "lora_A" in name else "B"] += (weight - before[name]).abs().flatten().tolist()
    assert max(moved["A"]) == 0
    assert max(before[name].abs().max().item() for name in before if "lora_A" in name) > 0.1
    assert torch.tensor(moved["B"]).median().item() == pytest.approx(0.01, rel=1e-4)
    assert max(moved["B"]) <= 0.01 * (1 + 1e-6)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[bool, list[float]]]:
    """Whether gradients are computed → the share of values that each pass through a dropout dropped."""
    forward, shares = torch.nn.Dropout.forward, defaultdict(list)

    def recorded(dropout: torch.nn.Dropout, values: torch.Tensor) -> torch.Tensor:
        left = forward(dropout, values)
        kept, there = left != 0, values != 0  # padding is none
        shares[torch.is_grad_enabled()].append((there & ~kept).sum().item() / there.sum().item())
        scale = 1 / (1 - 0.4) if torch.is_grad_enabled() else 1
        torch.testing.assert_close(left[kept], scale * values[kept])
        return left

    monkeypatch.setattr(torch.nn.Dropout, "forward", recorded)
    yield shares


@pytest.mark.parametrize("before", [True, False], ids=["before", "in every step"])
def test_the_adapter_drops_in_training_and_neither_in_the_reference_nor_in_validation(
    job: TrainingJob, model_1: Path, passes: dict[bool, list[float]], before: bool
) -> None:
    """The policy has 14 linear layers. Of 8 steps each has 2 passes; 4 examples validate twice, 2 at once.

    At the end texts of one token are written, which takes one pass.
    """
    second = replace(job, adapter=model_1, hardware=Hardware(precompute_reference=before))
    second = replace(second, decoding=replace(job.decoding, max_new_tokens=1))
    train(replace(second, training=replace(TRAINING, lora_dropout=0.4)), ignore)
    assert len(passes[True]) == 14 * 8 * 2
    assert sum(passes[True]) / len(passes[True]) == pytest.approx(0.4, abs=0.01)
    assert set(passes[False]) == {0}
    scored = 8 + 2 if before else 0  # the reference in every step is a copy without any dropout
    assert len(passes[False]) == 14 * (2 * 2 + scored + 1)
