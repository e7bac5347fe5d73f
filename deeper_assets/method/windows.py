"""What decides how histories become windows (`cutting` does it), and where everything that was read went."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

WINDOW = 10

REASONS: Mapping[str, str] = {
    # given by a source's reader, with the detail
    "malformed_line": "the line does not fit its file's format",
    "unreadable_window": "a window's items and ratings could not be read",
    "unequal_lengths": "a window's items and ratings differ in number, so some pairs are uncertain",
    "short_window": "a window holds fewer ratings than it has places; this place is empty",
    "window_too_long": "a window holds more ratings than a window has places",
    "contradicting_copies": "two copies of the same rating disagree",
    "duplicate_row": "the same rating of the same user stands in the source twice; the first is kept",
    "also_in_evaluation": "the user is an evaluation user too; the training copy is left out",
    "unreadable_order": "its place in the user's order cannot be read",
    "unreadable_time": "the time it was given cannot be read",
    "unreadable_split": "the split is neither train nor eval",
    "negative_amount": "less than nothing was done",
    "unusable_text": "the user, the item or the title holds a NUL or half a character, or is too long",
    # given here, rating by rating, in this order
    "missing_user": "no user is named",
    "no_position": "it has no place in the user's order",
    "not_a_number": "the rating is no number",
    "outside_scale": "the rating is not a mark of the domain's scale",
    "empty_title": "the item has no title",
    # given here, user by user
    "too_few_windows": "the user has too few windows with a usable rating",
    "no_first_window": "the user has no usable rating in W0, which makes the first persona",
}


@dataclass(frozen=True)
class WindowRules:
    """How histories are cut.

    Attributes:
        size: ratings a window.
        at_least: windows a user needs.
        at_most: windows used at most.
        categories: whether an item's categories stand behind its title.
    """

    size: int = WINDOW
    at_least: int = 5
    at_most: int = 7
    categories: bool = False


@dataclass(frozen=True)
class UserSampling:
    """Who is in: the share of users (0–1) that train where the source does not say; users a split at most.

    None takes every user; N takes the N with the smallest `stable_share(seed, domain, user)`. In a domain
    that is not `seen`, nobody trains: who trains by the source is left out. `short_users` are users with W0
    but too few windows to train or to be evaluated: they get personas, and are in no figure.
    """

    seed: int = 0
    train_share: float = 0.5
    train_users: int | None = None
    eval_users: int | None = None
    seen: bool = True
    short_users: int | None = 0


@dataclass(frozen=True)
class Tally:
    """A number of users and a number of their ratings (rows of the source)."""

    users: int
    ratings: int


@dataclass(frozen=True)
class Accounting:
    """Where everything that was read went.

    Attributes:
        read: distinct users, and all rows of the source.
        used: users and ratings in windows; `train_users` + `eval_users` + `short_users` of them.
        rejected: users without enough windows; ratings rejected for themselves or with such a user.
        not_sampled: usable users that `UserSampling` left out, and their usable ratings.
        unseen_train: users that the source trains on in a domain that only evaluates.
        left_over: usable ratings of used users in no window: beyond the last, or in an incomplete one.
    """

    read: Tally
    used: Tally
    rejected: Tally
    not_sampled: Tally
    unseen_train: Tally
    left_over: int
    train_users: int
    eval_users: int
    short_users: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether what was read is the sum of the other five, in users and in ratings."""
        parts = (self.used, self.rejected, self.not_sampled, self.unseen_train)
        users = sum(part.users for part in parts)
        ratings = sum(part.ratings for part in parts) + self.left_over
        return (users, ratings) == (self.read.users, self.read.ratings)

    def rows(self) -> list[dict[str, Any]]:
        """Rows of rating_accounts, without the domain; `left_over` are of users who count as used."""
        parts = ("read", "used", "rejected", "not_sampled", "unseen_train")
        tallies = {part: getattr(self, part) for part in parts} | {"left_over": Tally(0, self.left_over)}
        return [{"part": part, **asdict(tally)} for part, tally in tallies.items()]


def stable_hash(*parts: object) -> int:
    """64 bits that depend on nothing but `parts` (as text); the same on every machine."""
    text = f"[{', '.join([encode_basestring_ascii(str(part)) for part in parts])}]"  # as JSON, but faster
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stable_share(*parts: object) -> float:
    """`stable_hash` as a uniform number in [0, 1)."""
    return (stable_hash(*parts) >> 11) / 2**53
