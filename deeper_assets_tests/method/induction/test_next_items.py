from collections.abc import Sequence
from math import log2

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from deeper_assets.method.induction.next_items import (
    ALONE,
    CEILING,
    COLUMNS,
    MIXED,
    RANKERS,
    Items,
    next_item_scores,
    next_items_table,
    planted_next_items,
    strangers,
)
from deeper_assets.method.induction.rankers import FLOORS
from deeper_assets.method.induction.turns import Turn, turns_of
from deeper_assets_tests.method.induction.test_turns import done


class ByLetter:
    """An embedder: a text is about the letters a, b and c that are in it."""

    name = "by letter"

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.float64]:
        counts = np.array([[text.lower().count(letter) for letter in "abc"] for text in texts], dtype=float)
        length = np.linalg.norm(counts, axis=1, keepdims=True)
        return np.asarray(np.divide(counts, length, out=np.zeros_like(counts), where=length > 0))


EVENTS = done(
    *(("t", "train", window, item) for window, item in enumerate("aab")),
    *(("e", "eval", window, item) for window, item in enumerate("bcb")),
    *(("f", "eval", window, item) for window, item in enumerate("aab")),
    ("w", "train", 0, "c"),
)
MEMORIES = pd.DataFrame(
    {
        "user_id": EVENTS["user_id"],
        "memory": EVENTS["window"],
        "session": EVENTS["session"],
        "window": EVENTS["window"],
        "intent": "this is " + EVENTS["item_id"],
    }
)


EVIDENCE = MEMORIES[["user_id", "memory", "session"]].assign(event=0)


def members(*rows: tuple[str, str, int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["inducer", "user_id", "window", "persona", "memory"])


MEMBERS = members(
    ("clusters", "e", 0, 0, 0),  # b
    ("clusters", "e", 1, 0, 0),  # b
    ("clusters", "e", 1, 1, 1),  # c
    ("one_persona", "e", 1, 0, 0),
    ("one_persona", "e", 1, 0, 1),
    ("clusters", "f", 0, 0, 0),  # a
)


def scored(
    events: pd.DataFrame = EVENTS, memories: pd.DataFrame = MEMORIES, held: pd.DataFrame = MEMBERS
) -> pd.DataFrame:
    return next_item_scores(turns_of(events), events, memories, EVIDENCE, held, ByLetter(), "book")


def row(rows: pd.DataFrame, ranker: str, user: str, window: int) -> dict[str, object]:
    own = rows[(rows["ranker"] == ranker) & (rows["user_id"] == user) & (rows["window"] == window)]
    return dict(own.to_dict("records")[0])


def test_every_ranker_ranks_every_turn_of_an_evaluation_user() -> None:
    rows = scored()
    assert list(rows.columns) == list(COLUMNS)
    assert set(rows["ranker"]) == {*FLOORS, *ALONE, *MIXED} == set(RANKERS) - {CEILING}
    turns = rows.groupby("ranker")[["user_id", "window"]].apply(lambda own: own.values.tolist())
    assert all(own == [["e", 0], ["e", 1], ["f", 0], ["f", 1]] for own in turns)


def test_the_nearest_persona_ranks_by_hand() -> None:
    """After window 1, e has the personas b and c. Next comes b; others did a twice, b and c once."""
    rows = scored()
    told = row(rows, "personas", "e", 1)
    assert (told["catalogue"], told["items"], told["unseen"], told["fallback"]) == (3, 1, 0, 0)
    assert told["mrr"] == pytest.approx((1 + 1 / 2) / 2), "c is as near"
    assert row(rows, "popularity", "e", 1)["mrr"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert row(rows, "popularity", "e", 1)["ndcg_10"] == pytest.approx((1 / log2(3) + 1 / log2(4)) / 2)
    assert row(rows, "one_persona", "e", 1)["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert row(rows, "personas", "e", 0)["mrr"] == pytest.approx((1 / 2 + 1 / 3) / 2), "c, after b alone"


def test_an_item_is_its_text_and_what_others_were_after_with_it() -> None:
    """The text of x says nothing; t was after a with it, and e after b. The session of u came too late."""
    events = done(*((user, "train", 0, "x") for user in "tue"))
    memories = events[["user_id", "session"]].assign(memory=0, at=range(3))
    evidence = memories[["user_id", "session", "memory"]].assign(event=0)
    turns = turns_of(events)
    turns = type(turns)(**{**vars(turns), "learned": turns.learned[turns.learned["user_id"] != "u"]})
    vectors = np.array([[1.0, 0], [1, 0], [0, 1]])
    items = Items.of(turns, events, memories, evidence, vectors, np.array([[0.0, 0]]))
    assert items.without("nobody").tolist() == [pytest.approx([0.5**0.5, 0.5**0.5])]
    assert items.without("e").tolist() == [[1, 0]], "never what they themselves remember"
    assert items.without("t").tolist() == [[0, 1]]
    with_text = Items.of(turns, events, memories, evidence, vectors, np.array([[1.0, 0]]))
    assert with_text.without("nobody").tolist() == [pytest.approx([2 / 5**0.5, 1 / 5**0.5])]


def test_whoever_has_no_persona_is_ranked_by_popularity() -> None:
    rows = scored()
    for ranker in ("personas", "personas_popular", "every_cluster_popular"):
        none = row(rows, ranker, "f", 1)
        assert none["fallback"] == 1
        assert none["mrr"] == row(rows, "popularity", "f", 1)["mrr"]
    assert row(rows, "popularity", "f", 1)["fallback"] == 0


def test_a_stranger_lends_the_set_of_the_same_window() -> None:
    rows = scored(held=members(("clusters", "f", 1, 0, 2)))  # b, which e does next
    assert row(rows, "stranger_popular", "e", 1)["fallback"] == 0
    assert row(rows, "stranger_popular", "e", 0)["fallback"] == 1, "f has no set after window 0"
    assert row(rows, "stranger_popular", "f", 1)["fallback"] == 1, "nor has e"


def test_nobody_is_their_own_stranger() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    turns = [
        Turn(user, evaluated, window, pd.NaT, nothing, nothing)
        for evaluated, users in ((True, "abcde"), (False, "xyz"))
        for user in users
        for window in (0, 1)
    ] + [Turn("a", True, 2, pd.NaT, nothing, nothing)]
    lent = strangers(turns, "book")
    assert all(user != other for (user, _), other in lent.items())
    for users in ("abcde", "xyz"):
        own = [lent[user, 1] for user in users]
        assert sorted(own) == list(users), "each set is lent once, to its own kind"
    assert ("a", 2) not in lent, "whoever is alone has none"
    assert lent == strangers(list(reversed(turns)), "book")


def test_the_order_of_rows_changes_nothing() -> None:
    mixed = [frame.sample(frac=1, random_state=1) for frame in (EVENTS, MEMORIES, MEMBERS)]
    pd.testing.assert_frame_equal(scored(*mixed), scored())


def test_no_ranker_sees_what_comes_next() -> None:
    """Of one ranking of three items, the MRR of each adds up to 1 + 1/2 + 1/3, also with ties.

    So what e does in window 2 becomes each of them in turn. A ranker that saw it would come to more.
    """
    future = (EVENTS["user_id"] == "e") & (EVENTS["window"] == 2)
    told = []
    for item in "abc":
        events, memories = EVENTS.copy(), MEMORIES.copy()
        events.loc[future, ["item_id", "text"]] = [item, item.upper()]
        memories.loc[future, "intent"] = f"this is {item}"
        told.append(scored(events, memories))
    asked = (told[0]["user_id"] == "e") & (told[0]["window"] == 1)
    together = sum(rows.loc[asked, "mrr"] for rows in told)
    assert dict(zip(told[0].loc[asked, "ranker"], together, strict=True)) == pytest.approx(
        dict.fromkeys({*FLOORS, *ALONE, *MIXED}, 1 + 1 / 2 + 1 / 3)
    )
    for rows in told[1:]:
        pd.testing.assert_frame_equal(rows[~asked], told[0][~asked])


def test_what_others_do_after_the_moment_is_not_looked_at() -> None:
    """With times, the others' later half becomes something else, and every row stays as it is."""
    late = done(
        *(("t", "train", window, item) for window, item in enumerate("aab")),
        *(("e", "eval", window, "b") for window in range(2)),
        *(("t", "train", window, item) for window, item in enumerate("ccca", start=3)),
        *(("e", "eval", window, "c") for window in range(2, 4)),
        hours=True,
    )
    late["event"] = 0
    memories = late[["user_id", "session", "window"]].assign(memory=late["window"], intent=late["text"])
    known: list[list[str]] = []

    class Listening(ByLetter):
        def embed(self, texts: Sequence[str], known_texts: Sequence[str]) -> npt.NDArray[np.float64]:
            known.append(list(known_texts))
            return super().embed(texts, known_texts)

    later = (late["user_id"] == "t") & (late["window"] > 3)
    other = late.copy()
    other.loc[later, ["item_id", "text"]] = ["b", "B"]
    rows = [
        next_item_scores(
            turns_of(events), events, memories, MEMORIES[:0].assign(event=0), MEMBERS, Listening(), "book"
        )
        for events in (late, other)
    ]
    assert len(rows[0]) == len({*FLOORS, *ALONE, *MIXED}) * 2
    pd.testing.assert_frame_equal(*rows)
    assert known == [["A", "A", "B"]] * 2


def planted(*themes: str | None) -> pd.DataFrame:
    return EVENTS[["domain", "user_id", "session", "event"]].assign(theme=list(themes))


LIVES = pd.DataFrame(
    [("e", "war", pd.Timestamp("2020-01-01"), pd.NaT), ("f", "sea", pd.Timestamp("2020-01-01"), pd.NaT)],
    columns=["user_id", "theme", "since", "until"],
)


def test_what_was_planted_ranks_by_theme() -> None:
    """Others show that a is of the sea, b and c of war; e is after war, and f was after the sea."""
    events = EVENTS.assign(happened_at=pd.Timestamp("2020-01-01"))
    events["happened_at"] += pd.to_timedelta(events["window"], "D")
    told = planted("sea", "sea", "war", *[None] * 6, "war")
    lives = LIVES.copy()
    lives.loc[1, "until"] = pd.Timestamp("2020-01-02")
    # The moment that cuts the domain would leave nothing to learn from.
    turns = turns_of(events.assign(happened_at=pd.NaT))
    turns = type(turns)(**{**vars(turns), "asked": turns_of_all(events)})
    rows = planted_next_items(turns, events, lives, told, "book")
    assert set(rows["ranker"]) == {CEILING}
    assert rows[["user_id", "window", "fallback"]].values.tolist() == [
        ["e", 0, 0],
        ["e", 1, 0],
        ["f", 0, 0],
        ["f", 1, 1],
    ]
    assert row(rows, CEILING, "e", 1)["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert planted_next_items(turns, events, lives, told[:0], "book").empty


def turns_of_all(events: pd.DataFrame) -> list[Turn]:
    """The turns that are asked, each with the moment of its last event."""
    last = events.groupby(["user_id", "window"])["happened_at"].max()
    return [
        Turn(**{**vars(turn), "now": last[turn.user_id, turn.window]})
        for turn in turns_of(events.assign(happened_at=pd.NaT)).asked
    ]


def test_the_table_is_a_mean_of_users_and_compares_the_same_ones() -> None:
    """Of e, personas hit 1 and 0, of f 1: so 0.75, where popularity has 0.5 and 0."""
    hits = {"personas_popular": (1, 0, 1), "popularity": (1, 0, 0), "one_persona_popular": (0, 0, 1)}
    rows = pd.DataFrame(
        [
            ("book", ranker, user, window, 3, 4, 1, int(user == "f"), None, hit, hit / 2, hit / 4)
            for ranker, own in hits.items()
            for (user, window), hit in zip((("e", 0), ("e", 1), ("f", 0)), own, strict=True)
        ],
        columns=list(COLUMNS),
    )
    ceiling = rows[rows["ranker"] == "popularity"].assign(ranker=CEILING, hit_10=1.0)
    other = ceiling.assign(domain="grocery")
    table = next_items_table(rows, pd.concat([ceiling, other]), seed=1).set_index(["ranker", "measure"])
    assert set(table.index.unique("ranker")) == {*hits, CEILING}
    best = table.loc["personas_popular", "hit_10"]
    assert (best["users"], best["windows"], best["mean"], best["unseen"]) == (2, 3, 0.75, 1 / 4)
    assert best["fallback"] == pytest.approx(1 / 3)
    assert best["over_popularity"] == pytest.approx(0.75 - 0.25)
    assert (best["over_popularity_low"], best["over_popularity_high"]) == (0, 1), "e has 0, and f 1"
    assert best["over_one_persona_popular"] == pytest.approx(0.75 - 0.5)
    assert table.loc[("personas_popular", "mrr"), "mean"] == 0.75 / 4
    assert table.loc[(CEILING, "hit_10"), "windows"] == 3, "windows that the others do not have are left out"
    assert np.isnan(table.loc[("popularity", "hit_10"), "over_popularity"])


def test_without_anything_to_rank_the_table_is_empty() -> None:
    nothing = pd.DataFrame(columns=list(COLUMNS))
    table = next_items_table(nothing, nothing, seed=1)
    assert table.empty
    assert "over_popularity_low" in table


def test_a_domain_of_which_no_next_item_is_ranked_is_in_no_figure() -> None:
    rows = pd.DataFrame(
        [
            (domain, ranker, user, 0, 3, 2, unseen, 0, None, *[hit] * 3)
            for ranker in ("popularity", "one_persona_popular")
            for domain, user, unseen, hit in (("book", "e", 0, 0.5), ("shop", "f", 2, np.nan))
        ],
        columns=list(COLUMNS),
    )
    table = next_items_table(rows, rows.iloc[:0], seed=1).set_index(["ranker", "measure"])
    told = table.loc[("popularity", "hit_10")]
    assert (told["mean"], told["users"], told["windows"], told["unseen"]) == (0.5, 1, 1, 0.5)
    unseen = rows[rows["domain"] == "shop"]
    assert next_items_table(unseen, rows.iloc[:0], seed=1).empty
