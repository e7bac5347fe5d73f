"""The ten rating domains of the paper (Section 4.1, Table of users) and the scale each is rated on.

Departs from the paper: its prompts say "1 to 5" in every domain. Here each domain has the scale on which it
was rated, so MovieLens has half marks from 0.5 on.

Domains A–F are seen in training, G–J only in evaluation. A user's own domain is one more `Domain` value.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from deeper_assets.method.exceptions import DeeperError, did_you_mean


@dataclass(frozen=True)
class Scale:
    """A rating scale: `lowest` to `highest` (rating points), in steps of `step`.

    Raises:
        ValueError: there is no such scale.
    """

    lowest: float
    highest: float
    step: float

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest:g} must lie below highest {self.highest:g}")
        if not self.step > 0:
            raise ValueError(f"step {self.step:g} must lie above 0")

    def holds(self, rating: float) -> bool:
        """Whether `rating` is one of the scale's marks (NaN and infinities are not)."""
        if not self.lowest <= rating <= self.highest:
            return False
        steps = (rating - self.lowest) / self.step
        return abs(steps - round(steps)) < 1e-6

    def nearest(self, rating: float) -> float:
        """The scale's mark nearest to `rating`; a tie goes to the higher mark."""
        steps = int((min(max(rating, self.lowest), self.highest) - self.lowest) / self.step + 0.5)
        return min(self.lowest + steps * self.step, self.highest)

    def share(self, rating: float) -> float:
        """Where `rating` lies between the lowest mark (0) and the highest (1)."""
        return (rating - self.lowest) / (self.highest - self.lowest)

    def mark_at(self, share: float) -> float:
        """The mark nearest to where `share` lies between the lowest (0) and the highest (1)."""
        return self.nearest(self.lowest + share * (self.highest - self.lowest))

    def __str__(self) -> str:
        return f"from {self.lowest:g} to {self.highest:g} in steps of {self.step:g}"


@dataclass(frozen=True)
class Domain:
    """One domain of items that people rate.

    Attributes:
        name: partition key; also the value of every table's `domain` column.
        item_type: what one item is called in a prompt, in the singular ("movie").
        scale: the marks a rating can take.
        seen: whether the domain's training users train the policy.
        dataset: folder name in the authors' published files; None where they have none.
        letter: the paper's label, A–J; None outside the paper.
    """

    name: str
    item_type: str
    scale: Scale
    seen: bool
    dataset: str | None = None
    letter: str | None = None

    def identity(self) -> dict[str, Any]:
        """What of it stands in prompts, rows and errors; where its ratings lie, and who trains, does not."""
        return {"name": self.name, "item_type": self.item_type, "scale": asdict(self.scale)}


FIVE_STARS = Scale(1, 5, 1)
HALF_STARS = Scale(0.5, 5, 0.5)

PAPER_DOMAINS: tuple[Domain, ...] = (
    Domain("recipe", "recipe", FIVE_STARS, True, "food_com", "A"),
    Domain("book", "book", FIVE_STARS, True, "amazon_book", "B"),
    Domain("clothing", "piece of clothing", FIVE_STARS, True, "amazon_clothing_shoes_and_jewelry", "C"),
    Domain("local_business", "local business", FIVE_STARS, True, "google_local", "D"),
    Domain("movies_tv", "film or series", FIVE_STARS, True, "amazon_movies_and_TV", "E"),
    Domain("movielens", "film", HALF_STARS, True, "movielens_20m", "F"),
    Domain("arts_crafts_sewing", "craft supply", FIVE_STARS, False, "amazon_art_crafts_and_sewing", "G"),
    Domain("automotive", "automotive product", FIVE_STARS, False, "amazon_automative", "H"),
    Domain("sports_outdoors", "sports product", FIVE_STARS, False, "amazon_sports_and_outdoors", "I"),
    Domain("grocery", "grocery product", FIVE_STARS, False, "amazon_grocery_and_gourmer_food", "J"),
)


def find_domain(name: str, domains: Iterable[Domain] = PAPER_DOMAINS) -> Domain:
    """The domain called `name`.

    Raises:
        DeeperError: there is none; the message lists those there are.
    """
    known = {domain.name: domain for domain in domains}
    if name not in known:
        hint = did_you_mean(name, known)
        raise DeeperError(f"domain {name!r} is not configured (known: {', '.join(known)}){hint}")
    return known[name]
