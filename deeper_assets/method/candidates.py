"""Candidates (Section 3.2, direction search): what a policy makes of a context, and what it then predicts.

A candidate is a text that the policy sampled for a context, without its wrapping, as every persona. Samples
of a context with the same text are one candidate. A candidate that cannot be used has a reason out of
`REASONS`.

Departs from the paper: its prompt forbids names of items and scores, but its own personas contain them. Here
such leaks are measured on every candidate and, where `forbid_leaks` is set, make it unusable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from deeper_assets.method.asking import ChatSetup, predict_windows
from deeper_assets.method.contexts import surrounding
from deeper_assets.method.domains import Domain
from deeper_assets.method.histories import histories
from deeper_assets.method.judging import Shown, judged
from deeper_assets.method.leaks import names_item, states_score
from deeper_assets.method.protocols import Decoding, Sample, Sampler
from deeper_assets.method.windows import stable_hash

REASONS: Mapping[str, str] = {
    "truncated": "the text was cut before it came to its end",
    "empty": "the text holds no persona",
    "echo": "the text repeats the prompt: a block, a line of ratings, or the instructions",
    "names_item": "the text names an item that the prompt shows",
    "states_score": "the text states a score",
}
"""Why a candidate cannot be used; the first that applies counts."""

CANDIDATE = ["user_id", "round", "candidate"]
"""Columns that name a candidate of one domain and one template (iteration 1) or recipe (iteration 2)."""


@dataclass(frozen=True)
class CandidateDraw:
    """How candidates are drawn from a policy: `n` samples a context.

    With `forbid_leaks`, a candidate that names a shown item or states a score is unusable. The sampler itself
    keeps to `max_length`, tokens of prompt and text together: it stands here because it decides texts.
    """

    decoding: Decoding
    n: int
    seed: int
    forbid_leaks: bool = False
    max_length: int | None = None


def sampled_for(frame: pd.DataFrame) -> list[str]:
    """The columns that say what rows were sampled for: domain, and template or recipe."""
    return [column for column in ("domain", "template", "recipe") if column in frame.columns]


def seeds(user_id: str, round_: int, n: int, seed: int) -> list[int]:
    """The seed (63 bits) of each of a context's `n` samples, by who it is for and nothing else."""
    return [stable_hash(seed, user_id, round_, number) >> 1 for number in range(n)]


def sample_candidates(
    contexts: pd.DataFrame,
    sampler: Sampler,
    draw: CandidateDraw,
    windows: pd.DataFrame,
    domain: Domain,
) -> pd.DataFrame:
    """Samples refinements of every context that has a prompt, in one call of the sampler.

    `contexts` are contexts rows of one domain; its rating_windows say which items a prompt shows.

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
        shown = Shown.of(str(context["prompt"]), str(context["persona"]))
        titles = [item.title for item in users[context["user_id"]][context["round"]]]
        of = (*(context[key] for key in keys), context["user_id"], context["round"])
        for (text, reason), numbers in _distinct(samples, shown).items():
            names, states = names_item(text, titles), states_score(text)
            leak = "names_item" if names else "states_score" if states else None
            unusable = reason or (leak if draw.forbid_leaks else None)
            row = (numbers[0], text, len(numbers), samples[numbers[0]].tokens, unusable)
            rows.append((*of, *row, int(names), int(states), sampler.name))
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

    From candidates and rating_windows rows of one domain: candidate_predictions rows, one a predicted rating,
    for the windows that the user has.
    """
    usable = candidates[candidates["unusable"].isna()].assign(domain=domain.name)
    keys = [*sampled_for(usable), *CANDIDATE]
    usable = usable.sort_values(keys)
    asked = usable[[*keys, "persona"]].assign(window=usable["round"].map(surrounding))
    return predict_windows(chat, domain, windows, asked)


def _distinct(samples: Sequence[Sample], shown: Shown) -> dict[tuple[str, str | None], list[int]]:
    """Each distinct text of a context and the reason against it, leaks apart: the samples that had it."""
    read = {sample: judged(sample, shown) for sample in set(samples)}
    numbers: dict[tuple[str, str | None], list[int]] = {}
    for number, sample in enumerate(samples):
        numbers.setdefault(read[sample], []).append(number)
    return numbers
