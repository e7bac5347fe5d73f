"""The first iteration of profile `paper` with a language model of 135 million weights and real text.

What it writes is poor. It shows that templates, lengths, judgement, training and samplers take what a real
tokenizer and a real policy make of them.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pytest

from deeper_assets.engines.sampling.policy_tokens import encode, load_tokenizer
from deeper_assets.engines.sampling.vllm_sampler import GivenServers, VllmSampler
from deeper_assets.engines.training.examples import Group, read_groups, tokenized
from deeper_assets.method.protocols import Decoding, Sample, Sampler
from deeper_assets.method.rewards import COMPONENTS
from deeper_assets.resources import Experiment
from deeper_assets.store.adapters import as_rows
from deeper_assets_tests.real_policy import VARIABLE, real_policy
from deeper_assets_tests.real_policy.iteration import JOBS, experiment, make, train
from deeper_assets_tests.vllm_cpu.servers import vllm_servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]

USERS, CANDIDATES, LONGEST, STEPS = 3, 5, 256, 4
"""Users, candidates a context, tokens a text and steps of training: few, for one core.

A fifth of the texts come to an end.
"""

LIBRARIES = 700_000_000
"""Bytes that a process takes which has imported the trainer and trains nothing yet."""

GREEDY = Decoding(temperature=0, top_p=1, repetition_penalty=1, max_new_tokens=24)

Written: TypeAlias = tuple[list[Sample], list[Sample]]
"""A text for each context by the base, and one with the adapter."""


@pytest.fixture(scope="module")
def policy() -> Path:
    """The folder of the policy; tests that need it are skipped where it has not been fetched."""
    folder = real_policy()
    if folder is None:
        pytest.skip(f"{VARIABLE} names no folder: see deeper_assets_tests/real_policy/setup.sh")
    return folder


@pytest.fixture(scope="module")
def of(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment in which the first iteration has been made."""
    made = experiment(
        tmp_path_factory.mktemp("real") / "home",
        policy,
        USERS,
        STEPS,
        candidates=CANDIDATES,
        candidate_decoding={"max_new_tokens": LONGEST},
        evaluation_decoding={"max_new_tokens": GREEDY.max_new_tokens},
    )
    for job in JOBS:
        make(made, job)
    return made


@pytest.fixture(scope="module")
def trained(of: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which STEPS steps have been trained."""
    folder = tmp_path_factory.mktemp("real") / "trained"
    train(of, folder)
    return folder


@pytest.fixture(scope="module")
def written(of: Experiment, trained: Path) -> Written:
    """What the policy writes for each context, without the trained adapter and with it."""
    base, adapter = load(of, "base_policy"), as_rows(trained / "adapter")
    return written_by(of.sampler(base), of), written_by(of.sampler(base, adapter), of)


def written_by(sampler: Sampler, of: Experiment) -> list[Sample]:
    prompts = list(load(of, "contexts_1")["prompt"])
    return [text for (text,) in sampler.sample(prompts, [[0]] * len(prompts), GREEDY)]


def load(of: Experiment, table: str) -> pd.DataFrame:
    return of.warehouse.load(table)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'s ", " ").replace("'", ""))


def holds(text: str, part: Sequence[str]) -> bool:
    return f" {' '.join(part)} " in f" {' '.join(words(text))} "


def test_a_prompt_stands_once_in_the_template_and_alike_for_sampler_and_trainer(
    of: Experiment, policy: Path
) -> None:
    tokenizer, prompts = load_tokenizer(str(policy)), list(load(of, "contexts_1")["prompt"])
    assert len(prompts) == USERS
    texts = load(of, "candidates_1").groupby("user_id")["persona"].agg(list)
    for prompt, read, (first, *_) in zip(prompts, encode(tokenizer, prompts), texts, strict=True):
        shown = tokenizer.decode(read)
        assert shown.startswith("<|im_start|>system\n")
        assert shown.endswith(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
        assert (shown.count("<|im_start|>"), shown.count("<|im_end|>")) == (3, 2)
        group = Group(prompt, (first, "No."), (1.0, 0.0), False)
        (example,) = tokenized([group], tokenizer, of.settings.training.max_length, "lipo").training
        assert example.prompt.tolist() == read
        assert [tokenizer.decode(own) for own in example.completions] == [
            f"{text}<|im_end|>\n" for text in group.completions
        ]


def test_samples_are_counted_and_those_that_were_cut_are_known(of: Experiment, policy: Path) -> None:
    candidates = load(of, "candidates_1")
    assert candidates.groupby("user_id")["copies"].sum().tolist() == [CANDIDATES] * USERS
    assert candidates["tokens"].between(1, LONGEST).all()
    cut = candidates["unusable"] == "truncated"
    assert cut.tolist() == (candidates["tokens"] == LONGEST).tolist()
    special = load_tokenizer(str(policy)).all_special_tokens
    assert not [text for text in candidates["persona"] if any(token in text for token in special)]
    usable = candidates[candidates["unusable"].isna()]
    assert (usable["persona"] == usable["persona"].str.strip()).all()
    assert usable["persona"].str.fullmatch(r".*[A-Za-z].*", flags=re.DOTALL).all()


def test_echoes_and_names_are_those_that_a_plain_search_finds(of: Experiment) -> None:
    """In these texts titles have no brackets, articles behind or accents, so words in a row say it all."""
    windows = load(of, "rating_windows").query("window == 1").groupby("user_id")["title"].agg(list)
    prompts = load(of, "contexts_1").set_index("user_id")
    for row in load(of, "candidates_1").to_dict("records"):
        context = prompts.loc[row["user_id"]]
        named = [title for title in windows[row["user_id"]] if holds(row["persona"], words(title))]
        assert row["names_item"] >= bool(named), (named, row["persona"])
        if row["names_item"]:  # a title before its colon is a name too
            heads = [title.partition(":")[0] for title in windows[row["user_id"]]]
            assert any(holds(row["persona"], words(head)) for head in heads), row["persona"]
        if row["unusable"] in {None, "echo"}:
            shown = re.sub(r"<persona>\n.*\n</persona>", " | ", context["prompt"])
            shown = re.sub(r"<comparison>\n.*\n</comparison>", " | ", shown, flags=re.DOTALL)
            runs = [part[at : at + 8] for part in map(words, shown.split("|")) for at in range(len(part) - 7)]
            lines = [words(line) for line in context["prompt"].splitlines() if line.startswith("- ")]
            echoed = [run for run in (*runs, *lines) if holds(row["persona"], run)]
            assert row["unusable"] == "echo" or not echoed, (echoed, row["persona"])
            if row["unusable"] == "echo":  # a line of an item and its marks is one too
                assert echoed or re.search("(?i)predicted|actual", row["persona"]), row["persona"]


def test_texts_that_can_be_used_have_rewards(of: Experiment) -> None:
    key = ["user_id", "candidate"]
    usable = load(of, "candidates_1").set_index(key)["unusable"].isna()
    rewards = load(of, "rewards_1").set_index(key)[list(COMPONENTS)]
    assert rewards.notna().all(axis=1).to_dict() == usable.to_dict()
    assert rewards.notna().any(axis=1).sum() == usable.sum() > 0
    assert rewards[usable].abs().le(4).all(axis=None)


def test_steps_train_in_the_memory_that_was_expected(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    assert (report["steps"], report["trained"], report["left_out"]) == (STEPS, USERS, {})
    assert math.isfinite(report["training"]["loss"])
    assert report["training"]["gradient_norm"] > 0
    expected = sum(report["memory"][name] for name in ("base", "adapter", "activations", "logits"))
    assert 0.5 < expected / (report["memory_peak"] - LIBRARIES) < 2


def test_the_adapter_tells_chosen_from_rejected_merged_or_not(
    of: Experiment, policy: Path, trained: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    groups = read_groups(trained / "examples.parquet", "pairwise")[:2]
    longest = of.settings.training.max_length
    examples = tokenized(groups, load_tokenizer(str(policy)), longest, "pairwise").training
    base = AutoModelForCausalLM.from_pretrained(policy).eval()
    before = [scores(base, example) for example in examples]
    adapted = PeftModel.from_pretrained(base, trained / "adapter").eval()
    after = [scores(adapted, example) for example in examples]
    for old, new in zip(before, after, strict=True):
        assert all(abs(a - b) > 0.05 for a, b in zip(old, new, strict=True))
    assert sum(new[0] - new[1] for new in after) > sum(old[0] - old[1] for old in before)
    merged = adapted.merge_and_unload().eval()
    assert [scores(merged, example) for example in examples] == [
        pytest.approx(own, rel=1e-4) for own in after
    ]


def test_what_is_sampled_is_the_adapter(written: Written) -> None:
    assert all(one != other for one, other in zip(*written, strict=True))


def scores(model: Any, example: Any) -> list[float]:
    """Log-probabilities of an example's completions, each read with its prompt, by the model alone."""
    import torch

    totals = []
    for completion in example.completions:
        ids = torch.tensor([[*example.prompt.tolist(), *completion.tolist()]])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        totals.append(logps[len(example.prompt) - 1 :].sum().item())
    return totals


def test_vllm_writes_what_transformers_writes_and_serves_the_adapter(
    of: Experiment, policy: Path, trained: Path, written: Written, tmp_path: Path
) -> None:
    """Greedily; both compute in 32-bit floats, so texts part only where two tokens are as likely."""
    python = os.environ.get("DEEPER_TEST_VLLM")
    if python is None:
        pytest.skip("DEEPER_TEST_VLLM names no interpreter: see deeper_assets_tests/vllm_cpu/setup.sh")
    with vllm_servers(python, 1, policy, tmp_path) as (server,):
        for folder, here in zip((None, trained / "adapter"), written, strict=True):
            served = VllmSampler("v", str(policy), GivenServers((server.url,)), folder)
            texts = written_by(served, of)
            assert sum(one == other for one, other in zip(texts, here, strict=True)) >= len(here) - 1
