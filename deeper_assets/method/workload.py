"""How much a run asks for, counted before anything is asked.

Counts are of first questions: an unreadable answer is asked for again. They are exact but for candidates, of
which only those with different texts are predicted from; how many differ shows once they are sampled.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from deeper_assets.method.contexts import surrounding
from deeper_assets.method.initial import INITIAL_WINDOWS
from deeper_assets.method.rounds import ROUNDS

Population: TypeAlias = Mapping[tuple[str, frozenset[int]], int]
"""Split and windows → users who have just these windows."""

PERSONA_TOKENS: Mapping[str, tuple[float, ...]] = {
    "deeper": (245.0, 316.8, 353.5, 393.2, 429.4),
    "inc_update": (245.0, 390.1, 459.3, 500.4, 526.4),
    "hier_merge": (245.0, 325.3, 393.5, 462.2, 509.1),
}
"""Mean tokens of a persona by round, as the paper measured them."""


@dataclass(frozen=True)
class PaperDomain:
    """A domain of the paper (Section 4.1, its table of users).

    Attributes:
        train, evaluation: users.
        title_tokens: mean tokens (o200k_base) of an item's title in the published files.
    """

    train: int
    evaluation: int
    title_tokens: float


PAPER: Mapping[str, PaperDomain] = {
    "recipe": PaperDomain(1000, 356, 5.9),
    "book": PaperDomain(3000, 897, 9.6),
    "clothing": PaperDomain(300, 243, 13.8),
    "local_business": PaperDomain(2500, 826, 18.7),
    "movies_tv": PaperDomain(1000, 837, 6.4),
    "movielens": PaperDomain(3000, 1000, 8.9),
    "arts_crafts_sewing": PaperDomain(0, 86, 18.8),
    "automotive": PaperDomain(0, 143, 17.6),
    "sports_outdoors": PaperDomain(0, 185, 15.6),
    "grocery": PaperDomain(0, 236, 20.2),
}
"""Users as in the published files; the paper's table has those of sports and grocery the other way round."""

PAPER_WINDOWS = frozenset(range(ROUNDS + 2))
"""Windows that all rounds of the paper's tables need."""


@dataclass(frozen=True)
class Asked:
    """Prompts of one kind to the chat model.

    Attributes:
        table: the asset that asks.
        by: the update, recipe or method it is made for; empty where there is none.
        prompt: name of the template.
        windows: how many windows it shows.
        shown: mean tokens of the personas in it.
        answer: mean tokens of the persona that is asked for; None where ratings are.
        requests: how many.
    """

    table: str
    by: str
    prompt: str
    windows: int
    shown: float
    answer: float | None
    requests: int


@dataclass(frozen=True)
class Sampled:
    """Texts of a policy.

    Attributes:
        table, by, prompt, shown: as of `Asked`.
        prompts: how many prompts.
        texts: how many texts of all of them together.
        tokens: mean tokens of a text.
    """

    table: str
    by: str
    prompt: str
    shown: float
    prompts: int
    texts: int
    tokens: float


def population(windows: pd.DataFrame) -> Population:
    """Who has which windows.

    Args:
        windows: rating_windows rows of one domain.
    """
    users = windows.groupby(["user_id", "split"])["window"].agg(frozenset).reset_index()
    return Counter(zip(users["split"], users["window"], strict=True))


def paper_population(domain: str, train_users: int | None, eval_users: int | None) -> Population:
    """The paper's users of a domain, at most so many of each split (None: all)."""
    users = {"train": (PAPER[domain].train, train_users), "eval": (PAPER[domain].evaluation, eval_users)}
    return {
        (split, PAPER_WINDOWS): there if at_most is None else min(there, at_most)
        for split, (there, at_most) in users.items()
    }


def asked_initially(people: Population) -> list[Asked]:
    """What S0 and its predictions ask."""
    first = PERSONA_TOKENS["deeper"][0]
    windows = sum(users * len(has & {*INITIAL_WINDOWS[split]}) for (split, has), users in people.items())
    return [
        Asked("initial_personas", "", "initial_persona", 1, 0, first, sum(people.values())),
        Asked("initial_predictions", "", "prediction", 1, first, None, windows),
    ]


def contexts(people: Population, round_: int) -> int:
    """How many contexts of this round the training users have."""
    return sum(users for _, users in _learning(people, round_))


def sampled_in(people: Population, iteration: int, by: str, update: str, candidates: int) -> list[Sampled]:
    """What an iteration samples: with Model 1, first a persona S1 of every context of round 1.

    Args:
        people: of a domain that trains.
        iteration: 1 or 2.
        by: the update of iteration 1, the recipe of iteration 2.
        update: the prompt.
        candidates: texts a context.
    """
    tokens = PERSONA_TOKENS["deeper"]
    drawn = [
        Sampled(f"candidates_{iteration}", by, update, tokens[r - 1], n, n * candidates, tokens[r])
        for r in range(1, iteration + 1)
        for n in [contexts(people, r)]
    ]
    first = contexts(people, 1)
    refined = Sampled("contexts_2", by, update, tokens[0], first, first, tokens[1])
    return drawn if iteration == 1 else [refined, *drawn]


def asked_in(people: Population, iteration: int, by: str, candidates: int, unique: float) -> list[Asked]:
    """What an iteration asks the chat model.

    Args:
        people: of a domain that trains.
        iteration: 1 or 2.
        by: the update of iteration 1, the recipe of iteration 2.
        candidates: texts a context.
        unique: share of them that are usable and say what no other of their context says.
    """
    tokens = PERSONA_TOKENS["deeper"]
    predicted = [
        Asked(f"candidate_predictions_{iteration}", by, "prediction", 1, tokens[r], None, round(n))
        for r in range(1, iteration + 1)
        for n in [_around(people, r) * candidates * unique]
    ]
    second = Asked("contexts_2", by, "prediction", 1, tokens[1], None, _around(people, 2))
    return predicted if iteration == 1 else [second, *predicted]


def asked_in_rounds(people: Population, method: str) -> list[Asked]:
    """What the rounds of a method ask the chat model: the updates, where it writes them, and predictions."""
    tokens = _tokens(method)
    asked = []
    for r in range(1, ROUNDS + 1):
        updates, ahead = _observed(people, r), _observed(people, r + 1)
        for prompt, windows, shown, answer in _updates(method, r):
            asked.append(Asked("persona_rounds", method, prompt, windows, shown, answer, updates))
        asked.append(Asked("persona_rounds", method, "prediction", 1, tokens[r], None, ahead))
    return asked


def sampled_in_rounds(people: Population, method: str, update: str) -> list[Sampled]:
    """What the rounds of a policy's method sample: one text a user and round."""
    tokens = _tokens(method)
    return [
        Sampled("persona_rounds", method, update, tokens[r - 1], users, users, tokens[r])
        for r in range(1, ROUNDS + 1)
        for users in [_observed(people, r)]
    ]


def _updates(method: str, round_: int) -> list[tuple[str, int, float, float]]:
    """The prompts of a method's update: windows and tokens of personas it shows, tokens of its answer."""
    tokens = _tokens(method)
    old, new, short = tokens[round_ - 1], tokens[round_], tokens[0]
    known = {
        "full_regen": [("full_regen", round_ + 1, 0.0, new)],
        "slide_regen": [("slide_regen", 1, 0.0, new)],
        "inc_update": [("inc_update", 1, old, new)],
        "hier_merge": [("short_term_persona", 1, 0.0, short), ("merge_personas", 0, old + short, new)],
    }
    return known.get(method, [])


def _tokens(method: str) -> tuple[float, ...]:
    """Tokens of a method's personas by round; those that are written anew are as long as the first."""
    if method in ("full_regen", "slide_regen"):
        return PERSONA_TOKENS["deeper"][:1] * (ROUNDS + 1)
    return PERSONA_TOKENS.get(method, PERSONA_TOKENS["deeper"])


def _learning(people: Population, round_: int) -> Iterator[tuple[frozenset[int], int]]:
    """Training users with a context of this round: a window to learn from, and another that measures it.

    Contexts of round 2 go on from those of round 1.
    """
    for (split, has), users in people.items():
        if split == "train" and all(
            now in has and (before in has or after in has)
            for before, now, after in map(surrounding, range(1, round_ + 1))
        ):
            yield has, users


def _around(people: Population, round_: int) -> int:
    """Windows that one persona of each context of a round predicts."""
    return sum(len(has & {*surrounding(round_)}) * users for has, users in _learning(people, round_))


def _observed(people: Population, window: int) -> int:
    """Evaluation users who have a window."""
    return sum(users for (split, has), users in people.items() if split == "eval" and window in has)
