"""The paper's users and the lengths of personas: what an estimate goes by where there is nothing yet."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from deeper_assets.method.rounds import ROUNDS
from deeper_assets.method.windows import WINDOW

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
        users: split → how many.
        title_tokens: mean tokens (o200k_base) of an item's title in the published files.
    """

    users: Mapping[str, int]
    title_tokens: float


def _domain(train: int, evaluation: int, title_tokens: float) -> PaperDomain:
    return PaperDomain({"train": train, "eval": evaluation}, title_tokens)


PAPER: Mapping[str, PaperDomain] = {
    "recipe": _domain(1000, 356, 5.9),
    "book": _domain(3000, 897, 9.6),
    "clothing": _domain(300, 243, 13.8),
    "local_business": _domain(2500, 826, 18.7),
    "movies_tv": _domain(1000, 837, 6.4),
    "movielens": _domain(3000, 1000, 8.9),
    "arts_crafts_sewing": _domain(0, 86, 18.8),
    "automotive": _domain(0, 143, 17.6),
    "sports_outdoors": _domain(0, 185, 15.6),
    "grocery": _domain(0, 236, 20.2),
}
"""Users as in the published files; the paper's table has those of sports and grocery the other way round."""

_TITLE_WORDS = ("book", "story", "music", "game")
"""Words of one token each."""


def paper_windows(domain: str, users: Mapping[str, int]) -> pd.DataFrame:
    """Windows of users like the paper's: as many as all rounds of its tables need, titles of its length.

    Args:
        domain: a key of PAPER.
        users: split → how many.

    Returns:
        rating_windows rows; the same for equal arguments.
    """
    columns = ["domain", "user_id", "split", "window", "place", "item_id", "title", "rating", "rated_at"]
    return pd.DataFrame(_rows(domain, users), columns=columns)


def _rows(domain: str, users: Mapping[str, int]) -> Iterator[tuple[object, ...]]:
    words = round(PAPER[domain].title_tokens)
    for split, count in users.items():
        for number in range(count):
            user = f"{split}-{number}"
            drawn = random.Random(f"{domain} {user}")
            for window in range(ROUNDS + 2):
                for place in range(WINDOW):
                    title = " ".join(drawn.choices(_TITLE_WORDS, k=words))
                    yield domain, user, split, window, place, title, title, 4.0, pd.NaT
