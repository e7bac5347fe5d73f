"""A real policy's texts and what they cost: `python -m deeper_assets_tests.benchmarks.real_text`.

The first iteration of profile `paper` by the real graph with SmolLM2-135M-Instruct, whose folder
DEEPER_TEST_REAL_POLICY names (`real_policy/setup.sh`): the profile's prompts, decoding and lengths, generated
books and the embedded stand-in as chat model. Then ten optimizer steps of training. Prints how long prompts
and texts are, what could not be used and why, how fast all that is and how much memory it takes. It is for
CPUs: seconds are those of processor time, which is what one core takes that has nothing else to do.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from deeper_assets.engines.sampling.policy_tokens import encode, load_tokenizer
from deeper_assets.engines.training.examples import read_groups, tokenized
from deeper_assets.engines.training.memory import readable
from deeper_assets.resources import Experiment
from deeper_assets_tests.real_policy import VARIABLE, real_policy
from deeper_assets_tests.real_policy.iteration import JOBS, experiment, make, train

STEPS = 10
"""Optimizer steps of the training."""

UNWRITTEN = {"max_new_tokens": 1}
"""How long the texts may be that a training writes when it is done: they are not what is timed."""

QUANTILES = {"least": 0.0, "median": 0.5, "most": 1.0}


def lengths(tokens: Sequence[int]) -> str:
    """Least, median and most."""
    values = pd.Series(list(tokens), dtype="float64")
    return ", ".join(f"{name} {values.quantile(share):.0f}" for name, share in QUANTILES.items())


def print_texts(of: Experiment, policy: Path, seconds: float) -> None:
    """How long prompts and candidates are, and what is wrong with them."""
    prompts = list(of.warehouse.load("contexts_1")["prompt"].dropna())
    candidates = of.warehouse.load("candidates_1")
    each = candidates.loc[candidates.index.repeat(candidates["copies"])]
    read = [len(own) for own in encode(load_tokenizer(str(policy)), prompts)]
    ended = each.loc[each["unusable"] != "truncated", "persona"]
    rate, tokens = len(each) / seconds, each["tokens"].sum() / seconds
    print(f"{len(prompts)} prompts; tokens: {lengths(read)}")
    print(f"{len(each)} candidates, {len(candidates)} different; tokens: {lengths(each['tokens'])}")
    print(f"  words of those that came to an end: {lengths(ended.str.split().map(len))}")
    for reason, count in each["unusable"].value_counts().items():
        print(f"  {reason}: {count / len(each):.0%}")
    for column in ("names_item", "states_score"):
        print(f"  {column}: {each[column].mean():.0%}")
    print(f"{rate:.2f} candidates/s, {tokens:.0f} tokens/s, loading included")
    gains = of.warehouse.load("rewards_1")["reward_future"]
    print(f"reward of the future window: {gains.mean():+.3f} on average, {gains.nunique()} different")


def print_training(of: Experiment, policy: Path, folder: Path) -> None:
    """How fast and large the training was."""
    begun = _of_children()
    report = train(of, folder)
    seconds = _of_children() - begun
    groups = read_groups(folder / "examples.parquet", "pairwise")
    longest = of.settings.training.max_length
    examples = tokenized(groups, load_tokenizer(str(policy)), longest, "pairwise").training
    packed = [example.packed for example in examples]
    read = sum(packed) / len(packed) * report["steps"]
    memory = report["memory"]
    expected = sum(memory[name] for name in ("base", "adapter", "activations", "logits"))
    print(f"{len(packed)} pairs; tokens: {lengths(packed)}; left out: {report['left_out'] or 'none'}")
    print(f"{report['steps']} steps in {seconds:.0f} s: {read / seconds:.0f} tokens/s, loading included")
    print(f"  {readable(expected)} expected, {readable(report['memory_peak'])} at most with all libraries")


def _of_children() -> float:
    """Seconds of processor time of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(given: Sequence[str] | None = None) -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=15)
    asked = parser.parse_args(given)
    policy = real_policy()
    if policy is None:
        raise SystemExit(f"{VARIABLE} names no folder: see deeper_assets_tests/real_policy/setup.sh")
    with tempfile.TemporaryDirectory(prefix="deeper-real-text-") as name:
        folder = Path(name)
        scale = {"candidates": asked.candidates, "evaluation_decoding": UNWRITTEN}
        of = experiment(folder / "home", policy, asked.users, STEPS, **scale)
        for job in JOBS:
            begun = time.process_time()
            make(of, job)
            seconds = time.process_time() - begun
        print_texts(of, policy, seconds)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"memory of the process that samples: {readable(own)} at most", flush=True)
        print_training(of, policy, folder / "trained")


if __name__ == "__main__":
    main()
