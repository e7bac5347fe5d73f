"""Examples to train on: read from Parquet and turned into tokens.

A pair is a group of two, the chosen completion first, so one shape serves every loss. What cannot be used is
left out for a reason, and counted.

Departs from the paper: its trainer, LLaMA-Factory, cuts what is too long. Here nothing is cut to fit, because
a persona without its end would be taught.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeper_assets.engines.training.job import Loss
from deeper_assets.method.exceptions import DeeperError, one_line

Tokens: TypeAlias = NDArray[np.int32]

PAIR_COLUMNS = ("prompt", "chosen", "rejected", "validation")
GROUP_COLUMNS = ("group", "prompt", "completion", "reward", "validation")
_TEXTS = {"prompt", "chosen", "rejected", "completion"}

TOO_LONG = "too_long"
"""Left out: a pair with a text over max_length, or a group that such texts leave nothing to compare."""
ALL_EQUAL = "all_equal"
"""Left out: a group whose rewards are all equal; its loss is zero whatever the policy does."""
COMPLETION_TOO_LONG = "completion_too_long"
"""A completion over max_length that was left out of a group which trains without it."""

SOME = 32
"""Prompts, at most, for which a trained policy writes, to see whether its texts come to an end."""

_GROUPS_AT_ONCE = 256


@dataclass(frozen=True)
class Group:
    """One prompt with the completions that are compared: a user's only message, and answers to it.

    Rewards are rating points; in a pair 1 and 0.
    """

    prompt: str
    completions: tuple[str, ...]
    rewards: tuple[float, ...]
    validation: bool


@dataclass(frozen=True)
class Example:
    """A group in tokens, as the chat template renders it."""

    prompt: Tokens
    completions: tuple[Tokens, ...]
    rewards: tuple[float, ...]
    validation: bool

    @property
    def packed(self) -> int:
        """Tokens that `batches.pack` makes of it."""
        return packed_length(self.prompt, self.completions)


@dataclass(frozen=True)
class Examples:
    """What trains, what validates, and how much was left out for each reason."""

    training: Sequence[Example]
    validation: Sequence[Example]
    left_out: Mapping[str, int]


def packed_length(prompt: Sized, completions: Sequence[Sized]) -> int:
    """Tokens of a prompt once, and of its completions behind it, each after the prompt's last token again."""
    return len(prompt) - 1 + sum(1 + len(completion) for completion in completions)


def read_groups(path: Path, loss: Loss) -> list[Group]:
    """The pairs or groups of a Parquet file, in its order.

    Args:
        path: for the pairwise loss one row a pair: prompt, chosen, rejected, validation (0 or 1); otherwise
            one row a completion: group (whole number), prompt, completion, reward, validation.
        loss: which of the two it is.

    Raises:
        DeeperError: the file is no Parquet, a column is missing, a value is unknown or no text or
            number, or rows of one group differ in prompt or validation.
    """
    columns = PAIR_COLUMNS if loss == "pairwise" else GROUP_COLUMNS
    rows = _read(path, columns)
    if loss == "pairwise":
        return [
            Group(prompt, (chosen, rejected), (1.0, 0.0), bool(validation))
            for prompt, chosen, rejected, validation in rows.itertuples(index=False)
        ]
    groups = []
    for number, own in rows.groupby("group", sort=False):
        for column in ("prompt", "validation"):
            if own[column].nunique() > 1:
                raise DeeperError(f"examples {path}: rows of group {number} differ in {column!r}")
        completions, rewards = tuple(own["completion"]), tuple(own["reward"].astype(float))
        groups.append(Group(own["prompt"].iloc[0], completions, rewards, bool(own["validation"].iloc[0])))
    return groups


def tokenized(groups: Sequence[Group], tokenizer: Any, max_length: int, loss: Loss) -> Examples:
    """The groups in tokens, by the tokenizer's chat template.

    Prompt and completion may have `max_length` tokens together. A pair needs both its texts, a group two with
    different rewards.
    """
    kept: list[Example] = []
    left_out: Counter[str] = Counter()
    for group, (prompt, completions) in zip(groups, _in_tokens(groups, tokenizer), strict=True):
        fitting = [place for place, ids in enumerate(completions) if len(prompt) + len(ids) <= max_length]
        rewards = tuple(group.rewards[place] for place in fitting)
        cut = len(completions) - len(fitting)
        if len(set(group.rewards)) < 2:
            left_out[ALL_EQUAL] += 1
        elif len(set(rewards)) < 2 or (loss == "pairwise" and cut):
            left_out[TOO_LONG] += 1
        else:
            left_out[COMPLETION_TOO_LONG] += cut
            usable = tuple(completions[place] for place in fitting)
            kept.append(Example(prompt, usable, rewards, group.validation))
    return Examples(
        training=[example for example in kept if not example.validation],
        validation=[example for example in kept if example.validation],
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
    )


def some_prompts(groups: Sequence[Group]) -> list[str]:
    """Different prompts to write a few texts for, spread over those that validate; over all if none does."""
    validating = [group.prompt for group in groups if group.validation]
    prompts = list(dict.fromkeys(validating or [group.prompt for group in groups]))
    some = min(len(prompts), SOME)
    return [prompts[place * len(prompts) // some] for place in range(some)]


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise DeeperError(f"examples {path} cannot be read as Parquet: {one_line(error)}") from error
    missing = [column for column in columns if column not in rows]
    if missing:
        raise DeeperError(
            f"examples {path}: no column {missing[0]!r}; expected {', '.join(columns)}, got {list(rows)}"
        )
    rows = rows[list(columns)]
    for column in columns:
        _refuse_misfits(path, rows[column], column)
    return rows


def _refuse_misfits(path: Path, values: "pd.Series[Any]", column: str) -> None:
    if column in _TEXTS:
        fits, expected = values.map(lambda value: isinstance(value, str)), "text"
    elif column == "validation":
        fits, expected = values.isin([0, 1]), "0 or 1"
    else:
        numbers = pd.to_numeric(values, errors="coerce")
        fits, expected = numbers.map(math.isfinite), "a number"
    if not fits.all():
        row = int(np.flatnonzero(~fits.to_numpy(dtype=bool))[0])
        raise DeeperError(f"examples {path}: row {row}: {column} = {values.iloc[row]!r}, expected {expected}")


def _in_tokens(groups: Sequence[Group], tokenizer: Any) -> Iterator[tuple[Tokens, list[Tokens]]]:
    """Prompt and completions of each group, in tokens."""

    def encode(chats: list[list[dict[str, str]]], asking: bool) -> list[Tokens]:
        ids = tokenizer.apply_chat_template(
            chats, tokenize=True, add_generation_prompt=asking, return_dict=True
        )["input_ids"]
        return [np.asarray(own, dtype=np.int32) for own in ids]

    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        some = groups[start : start + _GROUPS_AT_ONCE]
        asked = [[{"role": "user", "content": group.prompt}] for group in some]
        answered = [
            [*chat, {"role": "assistant", "content": completion}]
            for chat, group in zip(asked, some, strict=True)
            for completion in group.completions
        ]
        whole = iter(encode(answered, asking=False))
        for prompt, group in zip(encode(asked, asking=True), some, strict=True):
            texts = [next(whole) for _ in group.completions]
            # As in TRL, a completion starts where the whole departs from the prompt alone: some templates
            # render the end of a prompt differently once an answer follows.
            shared = min(_shared(prompt, text) for text in texts)
            yield prompt[:shared], [text[shared:] for text in texts]


def _shared(prompt: Tokens, text: Tokens) -> int:
    """How many first tokens both have in common."""
    size = min(len(prompt), len(text))
    differing = np.flatnonzero(prompt[:size] != text[:size])
    return int(differing[0]) if len(differing) else size
