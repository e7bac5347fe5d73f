"""Candidates (Section 3.2, direction search): what a policy makes of a context, and what it then predicts.

A candidate is a text that the policy sampled for a context, without its wrapping, as every persona. Samples
of a context with the same text are one candidate. A candidate that cannot be used has a reason out of
`REASONS`.

Departs from the paper: its prompt forbids names of items and scores, but its own personas contain them. Here
such leaks are measured on every candidate and, where `forbid_leaks` is set, make it unusable.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deeper_assets.method.asking import ChatSetup, ask_predictions
from deeper_assets.method.contexts import surrounding
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.histories import histories, places
from deeper_assets.method.leaks import Words, names_item, states_score
from deeper_assets.method.parsing import parse_persona
from deeper_assets.method.prompts import one_line
from deeper_assets.method.protocols import Decoding, Sample, Sampler

REASONS: Mapping[str, str] = {
    "truncated": "the text was cut before it came to its end",
    "empty": "the text holds no persona",
    "echo": "the text repeats the prompt: a block, a line of ratings, or the instructions",
    "names_item": "the text names an item that the prompt shows",
    "states_score": "the text states a score",
}
"""Why a candidate cannot be used; the first that applies counts."""

ECHOED_WORDS = 8
"""Words of the instructions in a row that make an echo. The shortest instruction that models are seen to
repeat, "Do not name any item and do not state any rating", has eleven; what a persona shares with them by
chance, "tastes, values and way of judging", has six."""

CANDIDATE = ["user_id", "round", "candidate"]
"""Columns that name a candidate of one domain and one template (iteration 1) or recipe (iteration 2)."""


@dataclass(frozen=True)
class CandidateDraw:
    """How candidates are drawn from a policy.

    Attributes:
        decoding: how the policy writes.
        n: samples a context.
        seed: of the experiment.
        forbid_leaks: whether a candidate that names a shown item or states a score is unusable.
    """

    decoding: Decoding
    n: int
    seed: int
    forbid_leaks: bool = False


def sampled_for(frame: pd.DataFrame) -> list[str]:
    """The columns that say what rows were sampled for: domain, and template or recipe."""
    return [column for column in ("domain", "template", "recipe") if column in frame.columns]


def seeds(user_id: str, round_: int, n: int, seed: int) -> list[int]:
    """The seed (63 bits) of each of a context's `n` samples, by who it is for and nothing else."""
    return [_hash([seed, user_id, round_, number]) for number in range(n)]


def sample_candidates(
    contexts: pd.DataFrame,
    sampler: Sampler,
    draw: CandidateDraw,
    windows: pd.DataFrame,
    domain: Domain,
) -> pd.DataFrame:
    """Samples refinements of every context that has a prompt, in one call of the sampler.

    Args:
        contexts: contexts rows of one domain.
        sampler: the policy.
        draw: how it writes, how often, and what makes a text unusable.
        windows: rating_windows rows of the domain: which items a prompt shows.
        domain: that domain.

    Returns:
        candidates rows, one a distinct text of a context: `candidate` is the number of its first sample,
        `copies` how many samples had this text, `tokens` what the first of them took.
    """
    contexts = contexts[contexts["prompt"].notna()].assign(domain=domain.name)
    keys = sampled_for(contexts)
    contexts = contexts.sort_values([*keys, "user_id", "round"])
    wanted = contexts.to_dict("records")
    written = sampler.sample(
        [str(row["prompt"]) for row in wanted],
        [seeds(row["user_id"], row["round"], draw.n, draw.seed) for row in wanted],
        draw.decoding,
    )
    users = histories(windows[windows["user_id"].isin(contexts["user_id"])])
    rows: list[tuple[object, ...]] = []
    for context, samples in zip(wanted, written, strict=True):
        if len(samples) != draw.n:
            raise RuntimeError(f"{sampler.name} gave {len(samples)} samples of a prompt, not {draw.n}")
        shown = _Shown.of(str(context["prompt"]), str(context["persona"]))
        titles = [item.title for item in users[context["user_id"]][context["round"]]]
        of = (*(context[key] for key in keys), context["user_id"], context["round"])
        for one in _distinct(samples, shown):
            names, states = names_item(one.text, titles), states_score(one.text)
            leak = "names_item" if names else "states_score" if states else None
            unusable = one.fault or (leak if draw.forbid_leaks else None)
            row = (one.number, one.text, one.copies, one.tokens, unusable, int(names), int(states))
            rows.append((*of, *row, sampler.name))
    columns = [
        *(*keys, *CANDIDATE, "persona", "copies", "tokens"),
        *("unusable", "names_item", "states_score", "model"),
    ]
    whole = ["round", "candidate", "copies", "tokens", "names_item", "states_score"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "int64"))


def predict_candidates(
    candidates: pd.DataFrame, windows: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> pd.DataFrame:
    """What every usable candidate predicts for the previous, current and future window of its context.

    A user's persona is asked about a window once, in however many contexts it is a candidate.

    Args:
        candidates: candidates rows of one domain.
        windows: rating_windows rows of that domain.
        domain: that domain.
        chat: chat model and prompts.

    Returns:
        candidate_predictions rows, one a predicted rating, for the windows that the user has.
    """
    usable = candidates[candidates["unusable"].isna()].assign(domain=domain.name)
    keys = [*sampled_for(usable), *CANDIDATE]
    usable = usable.sort_values(keys)
    windows = windows[windows["user_id"].isin(usable["user_id"])]
    users, at = histories(windows), places(windows)
    questions: dict[tuple[str, int, str], int] = {}
    asked: list[tuple[int, int, int]] = []  # row of `usable`, window, question
    for i, (user, round_, persona) in enumerate(
        zip(usable["user_id"], usable["round"], usable["persona"], strict=True)
    ):
        for window in surrounding(round_):
            if window in users[user]:
                question = questions.setdefault((user, window, persona), len(questions))
                asked.append((i, window, question))
    replies = ask_predictions(
        chat, domain, [(persona, users[user][window]) for user, window, persona in questions]
    )
    # Columns at once, not rows: a domain of the paper's size has some three million of them.
    places_of = [at[user, window] for user, window, _ in questions]
    items = [len(places_of[question]) for *_, question in asked]
    frame = usable[keys].iloc[np.repeat(np.array([i for i, *_ in asked], dtype="int64"), items)]
    answers = [(places_of[question], replies[question]) for *_, question in asked]
    ratings = (reply.value or [np.nan] * len(held) for held, reply in answers)
    return frame.assign(
        window=np.repeat(np.array([window for _, window, _ in asked], dtype="int64"), items),
        place=np.array([place for held, _ in answers for place in held], dtype="int64"),
        predicted=np.array([rating for given in ratings for rating in given], dtype="float64"),
        note=np.repeat(np.array([reply.note for _, reply in answers], dtype="object"), items),
        attempts=np.repeat(np.array([reply.attempts for _, reply in answers], dtype="int64"), items),
        model=chat.model.name,
    ).reset_index(drop=True)


@dataclass(frozen=True)
class _Candidate:
    """One distinct text of a context; `fault` is the reason against it, leaks apart."""

    number: int
    text: str
    copies: int
    tokens: int
    fault: str | None


def _distinct(samples: Sequence[Sample], shown: "_Shown") -> list[_Candidate]:
    first: dict[tuple[str, str | None], int] = {}
    copies: dict[int, int] = {}
    judged = {sample: _judged(sample, shown) for sample in set(samples)}
    for number, sample in enumerate(samples):
        at = first.setdefault(judged[sample], number)
        copies[at] = copies.get(at, 0) + 1
    return [
        _Candidate(number, text, copies[number], samples[number].tokens, fault)
        for (text, fault), number in first.items()
    ]


def _judged(sample: Sample, shown: "_Shown") -> tuple[str, str | None]:
    """A sample's persona, or what text there is, and the reason against it."""
    try:
        text, fault = parse_persona(sample.text), None
    except UnreadableAnswer:
        text, fault = one_line(sample.text), "empty"
    if not sample.finished:
        return text, "truncated"
    if fault is None and shown.echoed_by(sample.text, text):
        return text, "echo"
    return text, fault


_BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)
_OWN_WRAPPING = "persona"


@dataclass(frozen=True)
class _Shown:
    """What of a prompt no persona has cause to repeat.

    Attributes:
        tags: the marks of its blocks.
        lines: the lines of its blocks but the old persona, as words.
        runs: ECHOED_WORDS of its instructions in a row, wherever they begin.
        persona: the old persona; what stands in there may be repeated.
    """

    tags: tuple[str, ...]
    lines: tuple[str, ...]
    runs: tuple[str, ...]
    persona: str

    @classmethod
    def of(cls, prompt: str, persona: str) -> "_Shown":
        blocks = _BLOCK.findall(prompt)
        lines = [line for tag, body in blocks if tag != _OWN_WRAPPING for line in body.split("\n")]
        runs = [
            " ".join(words[at : at + ECHOED_WORDS])
            for part in _BLOCK.sub("\0", prompt).split("\0")
            for words in [Words.of(part).words]
            for at in range(len(words) - ECHOED_WORDS + 1)
        ]
        old = Words.of(persona)
        return cls(
            tuple(mark for tag, _ in blocks for mark in (f"<{tag}>", f"</{tag}>") if mark not in persona),
            tuple(line for line in (" ".join(Words.of(line).words) for line in lines) if not old.holds(line)),
            tuple(run for run in runs if not old.holds(run)),
            persona,
        )

    def echoed_by(self, raw: str, persona: str) -> bool:
        """Whether a policy's text repeats the prompt. Tags around a persona are taken for its wrapping."""
        if any(mark in (persona if _OWN_WRAPPING in mark else raw) for mark in self.tags):
            return True
        answer = Words.of(raw)
        return any(answer.holds(words) for words in (*self.lines, *self.runs))


def _hash(parts: Sequence[object]) -> int:
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
