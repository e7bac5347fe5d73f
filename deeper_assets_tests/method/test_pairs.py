"""Which candidates are compared: by hand, against a naive choice, and by laws."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.pairs import (
    ValidationSplit,
    choose_pairs,
    group_candidates,
    mark_validation,
    replayed,
    score_candidates,
)
from deeper_assets.method.recipes import RECIPES, Recipe
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.growth import LINEAR, growth

PAPER, BALANCED = RECIPES["paper"], RECIPES["balanced"]
FREE = Recipe(chosen_at_least=None, rejected_at_most=None, margin_1=0.1, margin_2=0.1, pairs_at_most=4)

Totals = dict[tuple[str, str, int], list[float | None]]
"""(domain, user, round) → the reward of each candidate."""

Given = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def told(totals: Totals) -> Given:
    """candidates, rewards and contexts; the current component alone is not 0, where it is known."""
    of = [(*who, number, value) for who, values in totals.items() for number, value in enumerate(values)]
    rows = pd.DataFrame(of, columns=["domain", "user_id", "round", "candidate", "reward_current"])
    rows = rows.astype({"reward_current": "float64"}).assign(
        template="refinement", reward_previous=0.0, reward_future=0.0
    )
    names = rows["user_id"] + " r" + rows["round"].astype(str) + " c" + rows["candidate"].astype(str)
    contexts = pd.DataFrame(list(totals), columns=["domain", "user_id", "round"])
    contexts["prompt"] = contexts["domain"] + " " + contexts["user_id"] + " r" + contexts["round"].astype(str)
    return rows.assign(persona=names, unusable=None), rows, contexts


def chosen(frames: Given, recipe: Recipe, iteration: int = 1) -> pd.DataFrame:
    return choose_pairs(score_candidates(*frames, recipe), recipe, "r", iteration)


def grouped(frames: Given, recipe: Recipe, iteration: int = 1) -> pd.DataFrame:
    return group_candidates(score_candidates(*frames, recipe), "r", iteration)


def numbers(pairs: pd.DataFrame) -> list[tuple[int, int]]:
    """(chosen, rejected) candidate of each pair."""
    return [
        (int(chosen.split(" c")[1]), int(rejected.split(" c")[1]))
        for chosen, rejected in zip(pairs["chosen"], pairs["rejected"], strict=True)
    ]


def one(values: list[float | None], recipe: Recipe, iteration: int = 1) -> pd.DataFrame:
    return chosen(told({("book", "t", 1): values}), recipe, iteration)


def test_pairs_by_hand() -> None:
    got = one([0.9, -0.1, 0.6, 0.3, 0.0, None], PAPER)
    assert list(got.columns) == [c for c in TABLES["preference_pairs_1"].column_names if c != "validation"]
    # chosen 0 and 2, rejected 1 and 4; 0.3 is neither. First the best against the worst, then the other
    # two; then all four have been shown once, and the larger margin comes first.
    assert numbers(got) == [(0, 1), (2, 4), (0, 4), (2, 1)]
    assert got["margin"].tolist() == [1.0, 0.6, 0.9, 0.7]
    assert got["reward_chosen"].tolist() == [0.9, 0.6, 0.9, 0.6]
    assert got["reward_rejected"].tolist() == [-0.1, 0.0, 0.0, -0.1]
    assert got["pair"].tolist() == [0, 1, 2, 3]
    text = ["recipe", "domain", "user_id", "round", "prompt", "chosen", "rejected", "origin"]
    assert got.loc[0, text].tolist() == [
        *("r", "book", "t", 1, "book t r1", "t r1 c0", "t r1 c1", "iteration_1")
    ]


def test_pairs_spread_over_candidates() -> None:
    assert numbers(one([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], FREE)) == [(5, 0), (4, 1), (3, 2), (4, 0)]
    assert numbers(one([1.0, 0.0, -0.5, -1.0], PAPER)) == [(0, 3), (0, 2), (0, 1)]


def test_equal_margins_go_by_candidate_number() -> None:
    assert numbers(one([0.0, 1.0, 0.0, 1.0], FREE)) == [(1, 0), (3, 2), (1, 2), (3, 0)]


def test_bounds_and_margins_hold_to_the_tenth() -> None:
    assert numbers(one([0.5, 0.0], PAPER)) == [(0, 1)]
    assert numbers(one([0.5, 0.1], PAPER)) == []
    assert numbers(one([0.4, -0.4], PAPER)) == []
    # 0.7 - 0.6 is 0.0999…98 in floating point.
    assert numbers(one([0.6, 0.7], FREE)) == [(1, 0)]
    assert one([0.6, 0.7], FREE)["margin"].tolist() == [0.1]
    assert numbers(one([0.6, 0.6], replace(FREE, margin_1=0.0))) == []


def test_iteration_2_has_its_own_margin_and_origin() -> None:
    assert numbers(one([0.7, 0.0], PAPER, 1)) == [(0, 1)]
    assert numbers(one([0.7, 0.0], PAPER, 2)) == []
    got = one([0.7, -0.1], PAPER, 2)
    assert got["origin"].tolist() == ["iteration_2"]


def test_pairs_keep_to_their_context() -> None:
    totals: Totals = {
        ("book", "t", 1): [1.0],
        ("book", "t", 2): [0.0],
        ("film", "t", 1): [0.0],
        ("book", "s", 1): [0.0],
    }
    got = chosen(told(totals), FREE, 2)
    assert got.empty


def test_weights_decide_what_is_better() -> None:
    candidates, rewards, contexts = told({("book", "t", 1): [1.0, 0.0]})
    rewards = rewards.assign(reward_future=[-1.0, 0.0], reward_previous=[None, None])
    balanced = chosen((candidates, rewards, contexts), FREE)
    assert balanced.empty  # nothing is known without the previous window
    future = chosen((candidates, rewards, contexts), replace(FREE, weights=(0, 0, 1)))
    assert numbers(future) == [(1, 0)]
    decayed = chosen((candidates, rewards, contexts), replace(FREE, weights=(0, 2, 1)))
    assert decayed[["reward_chosen", "reward_rejected", "margin"]].values.tolist() == [[1.0, 0.0, 1.0]]


def test_unusable_candidates_are_in_nothing() -> None:
    candidates, rewards, contexts = told({("book", "t", 1): [1.0, 0.0, 0.5]})
    candidates.loc[0, "unusable"] = "echo"
    assert numbers(chosen((candidates, rewards, contexts), FREE)) == [(2, 1)]
    assert grouped((candidates, rewards, contexts), FREE)["candidate"].tolist() == [1, 2]


def test_nothing_gives_no_pairs_and_no_groups() -> None:
    for empty in (
        told({("book", "t", 1): [None, None]}),
        tuple(frame[:0] for frame in told({("b", "t", 1): [1.0]})),
    ):
        pairs, groups = chosen(empty, FREE), grouped(empty, FREE)
        assert pairs.empty
        assert groups.empty
        assert replayed(pairs, FREE, 100).empty
        assert replayed(groups, FREE, 100).empty
        assert mark_validation(pairs, ValidationSplit(0.1, 7))["validation"].empty


def naive(values: list[float | None], recipe: Recipe) -> list[tuple[int, int]]:
    """The rule of `choose_pairs`, one pair at a time."""
    left = []
    for i, j in permutations(range(len(values)), 2):
        better, worse = values[i], values[j]
        if better is None or worse is None:
            continue
        high = recipe.chosen_at_least is None or better >= recipe.chosen_at_least
        low = recipe.rejected_at_most is None or worse <= recipe.rejected_at_most
        margin = round(better - worse, 9)
        if high and low and margin > 0 and margin >= recipe.margin_1:
            left.append((margin, i, j))
    uses = [0] * len(values)
    taken: list[tuple[int, int]] = []
    while left and len(taken) < recipe.pairs_at_most:
        best = min(left, key=lambda pair: (uses[pair[1]] + uses[pair[2]], -pair[0], pair[1], pair[2]))
        left.remove(best)
        uses[best[1]] += 1
        uses[best[2]] += 1
        taken.append(best[1:])
    return taken


TENTHS = st.lists(st.none() | st.integers(-12, 12).map(lambda n: n / 10), min_size=1, max_size=7)


@given(
    st.lists(TENTHS, min_size=1, max_size=4),
    st.sampled_from([PAPER, BALANCED, FREE, replace(FREE, pairs_at_most=9), replace(PAPER, pairs_at_most=1)]),
    st.integers(0, 99),
)
def test_the_choice_is_the_naive_one_in_any_order_of_rows(
    contexts: list[list[float | None]], recipe: Recipe, shuffle: int
) -> None:
    frames = told({("book", f"u{i}", 1): values for i, values in enumerate(contexts)})
    got = chosen(frames, recipe)
    for i, values in enumerate(contexts):
        assert numbers(got[got["user_id"] == f"u{i}"]) == naive(values, recipe)
    shuffled = [frame.sample(frac=1, random_state=shuffle) for frame in frames]
    pd.testing.assert_frame_equal(got, chosen(shuffled, recipe))


@given(TENTHS, st.sampled_from([PAPER, BALANCED]))
def test_every_pair_keeps_the_recipe(values: list[float | None], recipe: Recipe) -> None:
    got = one(values, recipe)
    assert (got["margin"] >= recipe.margin_1).all()
    assert (got["margin"] == (got["reward_chosen"] - got["reward_rejected"]).round(9)).all()
    assert len(got) <= recipe.pairs_at_most
    assert not got.duplicated(["chosen", "rejected"]).any()
    assert recipe.chosen_at_least is None or (got["reward_chosen"] >= recipe.chosen_at_least).all()
    assert recipe.rejected_at_most is None or (got["reward_rejected"] <= recipe.rejected_at_most).all()


def test_groups_by_hand() -> None:
    frames = told(
        {("book", "t", 1): [0.2, None, 0.2, 0.1], ("book", "s", 1): [0.3, 0.3], ("film", "t", 1): [0.4]}
    )
    got = grouped(frames, PAPER, 2)
    assert list(got.columns) == [c for c in TABLES["preference_groups_1"].column_names if c != "validation"]
    assert got[["domain", "user_id", "round", "candidate", "reward"]].values.tolist() == [
        ["book", "t", 1, 0, 0.2],
        ["book", "t", 1, 2, 0.2],
        ["book", "t", 1, 3, 0.1],
    ]
    assert got["completion"].tolist() == ["t r1 c0", "t r1 c2", "t r1 c3"]
    assert set(got["origin"]) == {"iteration_2"}
    assert set(got["prompt"]) == {"book t r1"}


def test_floating_point_makes_no_group() -> None:
    candidates, rewards, contexts = told({("book", "t", 1): [0.1 + 0.2, 0.3]})
    assert rewards["reward_current"].nunique() == 2
    assert grouped((candidates, rewards, contexts), FREE).empty


def many(users: int = 400) -> Given:
    """Margins from 0.1 to 1.0, evenly, in two domains of which book has the smaller ones."""
    return told(
        {
            ("book" if i % 2 else "film", f"u{i}", 1): [0.0, (i % 5 + 1 + (i + 1) % 2 * 5) / 10]
            for i in range(users)
        }
    )


def test_the_replay_is_a_sample_of_the_large_margins() -> None:
    pairs = chosen(many(), FREE)
    recipe = replace(FREE, replay=0.25, replay_margin=0.4)
    got = replayed(pairs, recipe, 202)
    assert len(got) == 50  # 50.5, to the even number
    assert list(got.columns) == list(pairs.columns)
    assert (got["margin"] > 0.4).all()
    assert set(got["origin"]) == {"replay"}
    pd.testing.assert_frame_equal(got, replayed(pairs.sample(frac=1, random_state=1), recipe, 202))
    # No more than there are; a larger replay holds a smaller one.
    assert len(replayed(pairs, recipe, 10_000)) == (pairs["margin"] > 0.4).sum()
    assert set(replayed(pairs, recipe, 100)["user_id"]) < set(got["user_id"])
    # Not the largest: all margins above the bar are there.
    assert set(got["margin"]) == set(pairs.loc[pairs["margin"] > 0.4, "margin"])
    assert replayed(pairs, replace(recipe, replay=0), 202).empty


def test_groups_are_replayed_whole() -> None:
    groups = grouped(many(), FREE)
    got = replayed(groups, replace(FREE, replay=0.25, replay_margin=0.4), 40)
    assert got.groupby(["domain", "user_id", "round"]).size().tolist() == [2] * 10
    assert got.groupby("user_id")["reward"].max().gt(0.4).all()
    assert set(got["origin"]) == {"replay"}


def test_validation_splits_by_user_and_by_nothing_else() -> None:
    pairs = chosen(many(2000), FREE)
    got = mark_validation(pairs, ValidationSplit(0.1, 7))
    assert list(got.columns) == [*pairs.columns, "validation"]
    assert set(got["validation"]) == {0, 1}
    assert got["validation"].mean() == pytest.approx(0.1, abs=0.02)
    groups = mark_validation(grouped(many(100), FREE, 2)[::-1], ValidationSplit(0.1, 7))
    sides = pd.concat([got, groups]).groupby(["domain", "user_id"])["validation"].nunique()
    assert (sides == 1).all()
    assert (
        mark_validation(pairs, ValidationSplit(0.1, 8))["validation"].tolist() != got["validation"].tolist()
    )
    assert mark_validation(pairs, ValidationSplit(0, 7))["validation"].sum() == 0


def test_contexts_take_no_more_than_their_number() -> None:
    def frames(contexts: int) -> Given:
        draw = np.random.default_rng(0)
        return told({("book", f"u{i}", 1): list(draw.integers(-10, 11, 15) / 10) for i in range(contexts)})

    assert len(chosen(frames(1_000), BALANCED)) == 4_000
    assert growth(lambda given: chosen(given, BALANCED), frames, 1_000) < LINEAR
