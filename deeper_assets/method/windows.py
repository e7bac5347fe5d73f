"""Ratings to windows: what cannot be used and why, who is in, and ten ratings a window (paper, Section 4.1).

A user's history in time order is cut in windows of ten, W0 … W6; a user needs W0, which makes the first
persona, and five windows in all. Nothing disappears: every rating and every user that was read is used,
rejected with a reason, not sampled, or left over, and `account` adds them up.

Departs from the paper: it drops what it cannot use before it cuts. Here a rejected rating leaves its window
shorter and moves nothing else, so that windows stay the published ones. Users whose source gives no split are
divided by a stable hash, so that neither the order of the rows nor other users decide who trains.
"""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

import numpy as np
import pandas as pd

from deeper_assets.method.domains import Domain
from deeper_assets.method.frames import stacked

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

_REJECTED = ["domain", "user_id", "row", "file", "line", "reason", "detail", "ratings"]
_WINDOWS = ["domain", "user_id", "split", "window", "place", "item_id", "title", "rating", "rated_at"]


@dataclass(frozen=True)
class WindowRules:
    """How histories are cut: ratings a window, windows a user needs, windows used at most."""

    size: int = WINDOW
    at_least: int = 5
    at_most: int = 7


@dataclass(frozen=True)
class UserSampling:
    """Who is in: the share of users (0–1) that train where the source does not say; users a split at most.

    None takes every user; N takes the N with the smallest `stable_share(seed, domain, user)`. In a domain
    that is not `seen`, nobody trains: who trains by the source is left out.
    """

    seed: int = 0
    train_share: float = 0.5
    train_users: int | None = None
    eval_users: int | None = None
    seen: bool = True


@dataclass(frozen=True)
class Tally:
    """A number of users and a number of their ratings (rows of raw_ratings)."""

    users: int
    ratings: int


@dataclass(frozen=True)
class Accounting:
    """Where everything that was read went.

    Attributes:
        read: distinct users, and all rows of raw_ratings.
        used: users and ratings in windows; `train_users` + `eval_users` of them.
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

    @property
    def adds_up(self) -> bool:
        """Whether what was read is the sum of the other five, in users and in ratings."""
        parts = (self.used, self.rejected, self.not_sampled, self.unseen_train)
        users = sum(part.users for part in parts)
        ratings = sum(part.ratings for part in parts) + self.left_over
        return (users, ratings) == (self.read.users, self.read.ratings)


def stable_hash(*parts: object) -> int:
    """64 bits that depend on nothing but `parts` (as text); the same on every machine."""
    text = f"[{', '.join([encode_basestring_ascii(str(part)) for part in parts])}]"  # as JSON, but faster
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stable_share(*parts: object) -> float:
    """`stable_hash` as a uniform number in [0, 1)."""
    return (stable_hash(*parts) >> 11) / 2**53


def reject_ratings(raw: pd.DataFrame, domain: Domain, rules: WindowRules) -> pd.DataFrame:
    """Every rating and every user that cannot be used, with the first reason that applies.

    Args:
        raw: frame with the columns of raw_ratings, one domain, any order of rows.
        domain: whose scale the ratings must be on.
        rules: how many windows a user needs.

    Returns:
        Frame with the columns of rejected_ratings: one row a rejected rating (`ratings` 1), by row; then one
        row a rejected user (`row` NULL, `ratings` = usable ratings the user had), by user.
    """
    raw = raw.sort_values("row", ignore_index=True)
    reason, detail = _reasons(raw, domain)
    bad = reason.notna()
    ratings = raw.loc[bad, ["user_id", "row", "file", "line"]].assign(
        reason=reason[bad], detail=detail[bad], ratings=1
    )
    users = _unusable_users(raw, ~bad, rules)
    return stacked([_typed(part) for part in (ratings, users)]).assign(domain=domain.name)[_REJECTED]


def cut_windows(
    raw: pd.DataFrame, rejected: pd.DataFrame, domain: Domain, rules: WindowRules, sampling: UserSampling
) -> pd.DataFrame:
    """The usable users' windows, split in train and eval and sampled.

    Args:
        raw: frame with the columns of raw_ratings, one domain, any order of rows.
        rejected: what `reject_ratings` returned for `raw` under the same rules.
        domain: its name decides, with the seed, who is sampled.
        rules: how windows are cut.
        sampling: who is in.

    Returns:
        Frame with the columns of rating_windows, by user, window and place.
    """
    usable = _usable(raw, rejected)
    splits = _splits(usable, domain, sampling)
    cut = usable[usable["user_id"].isin(list(splits)) & _in_windows(raw, usable, rules)]
    position = cut["position"].astype("int64")
    windows = cut.assign(
        domain=domain.name,
        split=cut["user_id"].map(splits).astype("object"),
        window=(position // rules.size).astype("int32"),
        place=(position % rules.size).astype("int32"),
        item_id=cut["item_id"].where(cut["item_id"].notna(), cut["title"]),
        rating=cut["rating"].astype("float64"),
    )
    return windows.sort_values(["user_id", "window", "place"], ignore_index=True)[_WINDOWS]


def account(
    raw: pd.DataFrame, rejected: pd.DataFrame, windows: pd.DataFrame, domain: Domain, rules: WindowRules
) -> Accounting:
    """Add up where the users and ratings of `raw` went; see `Accounting`.

    Args:
        raw: frame with the columns of raw_ratings, one domain.
        rejected: what `reject_ratings` returned for it.
        windows: what `cut_windows` returned for the two.
        domain: whose unseen training users are counted apart.
        rules: how the windows were cut; what is left over follows from them, not from `windows`.
    """
    usable = _usable(raw, rejected)
    used = usable["user_id"].isin(windows["user_id"])
    trains = ~used & usable["user_id"].map(_source_splits(usable)).eq("train") & (not domain.seen)
    split_of = windows.drop_duplicates("user_id")["split"]
    return Accounting(
        read=Tally(int(raw.loc[_named(raw), "user_id"].nunique()), len(raw)),
        used=Tally(len(split_of), len(windows)),
        rejected=Tally(int(rejected["row"].isna().sum()), int(rejected["ratings"].sum())),
        not_sampled=_tally(usable[~used & ~trains]),
        unseen_train=_tally(usable[trains]),
        left_over=int((used & ~_in_windows(raw, usable, rules)).sum()),
        train_users=int((split_of == "train").sum()),
        eval_users=int((split_of == "eval").sum()),
    )


def _named(raw: pd.DataFrame) -> "pd.Series[bool]":
    """Whether each row names a user."""
    return ~_invisible(raw["user_id"])


def _invisible(texts: "pd.Series[str]") -> "pd.Series[bool]":
    """Whether each text is missing, or shows nothing: white space, control and zero-width characters."""
    # Each text once: there are far fewer of them than ratings.
    visible = [text for text in texts.dropna().unique() if not all(map(_shows_nothing, text))]
    return ~texts.isin(visible)


def _shows_nothing(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Zs", "Zl", "Zp"}


def _reasons(raw: pd.DataFrame, domain: Domain) -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """The first reason against each row, and its detail; missing where the row is usable."""
    rating = raw["rating"].astype("float64")
    text = raw["rating_text"].astype("object").where(raw["rating_text"].notna(), "").astype(str).str[:80]
    marks = {mark: domain.scale.holds(mark) for mark in rating.dropna().unique()}
    off_scale = {mark: _off_scale(mark, domain) for mark, held in marks.items() if not held}
    rules: list[tuple[str, pd.Series[bool], str | pd.Series[str]]] = [
        ("missing_user", ~_named(raw), "no user id"),
        ("no_position", raw["position"].isna(), "the source gives it no position"),
        (
            "not_a_number",
            ~pd.Series(np.isfinite(rating), raw.index),
            "found '" + text + "', expected a number",
        ),
        ("outside_scale", ~rating.map(marks).eq(True), rating.map(off_scale)),
        ("empty_title", _invisible(raw["title"]), "the title is empty"),
    ]
    reason = raw["defect"].astype("object")
    detail = raw["detail"].astype("object")
    detail[reason.isna()] = None
    for word, applies, because in rules:
        rows = applies & reason.isna()
        reason = reason.mask(rows, word)
        detail = detail.mask(rows, because)
    return reason, detail


def _off_scale(rating: float, domain: Domain) -> str:
    if rating == 0 < domain.scale.lowest:
        return "0: no rating given"
    return f"{rating:g}: the scale is {domain.scale}"


def _unusable_users(raw: pd.DataFrame, usable: "pd.Series[bool]", rules: WindowRules) -> pd.DataFrame:
    """One row a named user who lacks W0 or has too few windows; file and line of the user's first rating."""
    named = raw[_named(raw)]
    firsts = (
        named.sort_values(["position", "row"]).drop_duplicates("user_id").set_index("user_id").sort_index()
    )
    ratings = raw.loc[usable, "user_id"].value_counts().reindex(firsts.index, fill_value=0)
    inside = raw[usable & _in_windows(raw, raw, rules)]
    inside = inside.assign(window=inside["position"] // rules.size).drop_duplicates(["user_id", "window"])
    windows = inside["user_id"].value_counts().reindex(firsts.index, fill_value=0)
    has_first = firsts.index.isin(inside.loc[inside["window"] == 0, "user_id"])
    too_few = windows < rules.at_least
    unusable = too_few | ~has_first
    counted = windows.map(lambda n: f"{n} usable windows, {rules.at_least} needed")
    return pd.DataFrame(
        {
            "user_id": firsts.index[unusable],
            "row": None,
            "file": firsts["file"][unusable],
            "line": firsts["line"][unusable],
            "reason": np.where(too_few, "too_few_windows", "no_first_window")[unusable],
            "detail": counted.where(too_few, "no usable rating in W0")[unusable],
            "ratings": ratings[unusable],
        }
    )


def _in_windows(raw: pd.DataFrame, rows: pd.DataFrame, rules: WindowRules) -> "pd.Series[bool]":
    """Whether each of `rows` (some of `raw`) lies in a used window all of whose places are in the source."""
    placed = raw.loc[raw["position"].notna(), ["user_id", "position"]]
    window = placed["position"].astype("int64") // rules.size
    slots = placed.groupby(["user_id", window.rename("window")], sort=False).size()
    full = slots.index[(slots == rules.size) & (slots.index.get_level_values("window") < rules.at_most)]
    own = rows["position"].astype("float64") // rules.size
    inside = pd.MultiIndex.from_arrays([rows["user_id"], own.fillna(-1).astype("int64")]).isin(full)
    return pd.Series(inside, index=rows.index)


def _usable(raw: pd.DataFrame, rejected: pd.DataFrame) -> pd.DataFrame:
    """The rows of `raw` that were rejected neither for themselves nor with their user."""
    users = rejected.loc[rejected["row"].isna(), "user_id"]
    rows = rejected["row"].dropna().astype("int64")
    return raw[~raw["row"].isin(rows) & ~raw["user_id"].isin(users)]


def _source_splits(usable: pd.DataFrame) -> dict[str, str]:
    """The source's split of each user that it splits: user → train or eval; eval where it has both."""
    splits = usable.loc[usable["split"].notna(), ["user_id", "split"]].drop_duplicates()
    pairs = splits.sort_values("split", ascending=False).itertuples(index=False, name=None)
    return dict(pairs)  # eval comes after train, so it stays


def _splits(usable: pd.DataFrame, domain: Domain, sampling: UserSampling) -> dict[str, str]:
    """The users that are in: user → train or eval; an unseen domain's training users are left out."""
    by_source = _source_splits(usable)
    groups: dict[str, list[tuple[float, str]]] = {"train": [], "eval": []}
    for user in usable["user_id"].unique():
        share = stable_share(sampling.seed, domain.name, user)
        split = by_source.get(user) or ("train" if sampling.seen and share < sampling.train_share else "eval")
        if split == "eval" or sampling.seen:
            groups[split].append((share, user))
    most = {"train": sampling.train_users, "eval": sampling.eval_users}
    return {user: split for split, users in groups.items() for _, user in sorted(users)[: most[split]]}


def _tally(rows: pd.DataFrame) -> Tally:
    return Tally(int(rows["user_id"].nunique()), len(rows))


def _typed(rejected: pd.DataFrame) -> pd.DataFrame:
    return rejected.astype({"row": "Int64", "line": "Int64", "ratings": "int64", "detail": "object"})
