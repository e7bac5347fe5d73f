"""Counts of what a run asks, against the functions that ask."""

from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import CandidateDraw, predict_candidates, sample_candidates
from deeper_assets.method.contexts import initial_contexts, next_contexts, of_recipe, refined_personas
from deeper_assets.method.domains import FIVE_STARS, Domain
from deeper_assets.method.initial import initial_personas, initial_predictions
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets.method.rounds import play_rounds
from deeper_assets.method.updates import PROMPT_METHODS, PolicyWriting, by_policy
from deeper_assets.method.workload import (
    PAPER,
    asked_in,
    asked_in_rounds,
    asked_initially,
    contexts,
    paper_population,
    population,
    sampled_in,
    sampled_in_rounds,
)
from deeper_assets_tests.fakes import ScriptedChat, ScriptedSampler

DOMAIN = Domain("book", "book", FIVE_STARS, seen=True)
N = 3
Asks = list[tuple[str, str]]


def windows(users: Sequence[tuple[str, Sequence[int]]]) -> pd.DataFrame:
    """One rating in each of these windows of each user, given as split and windows."""
    rows = [
        ("book", f"u{i}", split, window, 0, f"i{window}", f"T{window}", 4.0, pd.NaT)
        for i, (split, has) in enumerate(users)
        for window in has
    ]
    columns = ["domain", "user_id", "split", "window", "place", "item_id", "title", "rating", "rated_at"]
    return pd.DataFrame(rows, columns=columns)


class Counting(ScriptedChat):
    """A chat model that answers everything, and says how often it was asked since the last time."""

    def __init__(self) -> None:
        super().__init__(
            lambda prompt, _: "[4]" if "JSON" in prompt else "A person of calm and steady taste."
        )

    def since(self) -> int:
        asked, self.asked = len(self.asked), []
        return asked


def told(prompt: str, seed: int) -> Sample:
    return Sample(f"A person of taste number {seed}.", 9, True)


some_windows = st.sets(st.integers(1, 6)).map(lambda others: sorted({0, *others}))
users = st.tuples(st.sampled_from(["train", "eval"]), some_windows)


@settings(max_examples=25, deadline=None)
@given(st.lists(users, min_size=1, max_size=5))
def test_as_many_are_counted_as_are_asked_whichever_windows_users_have(
    people: list[tuple[str, list[int]]],
) -> None:
    rows = windows(people)
    counted = population(rows)
    chat, sampler = Counting(), ScriptedSampler(told)
    setup = ChatSetup(chat, Prompts(), 1)

    personas = initial_personas(rows, DOMAIN, setup)
    asked = [chat.since()]
    predictions = initial_predictions(rows, personas, DOMAIN, setup)
    asked.append(chat.since())
    assert [one.requests for one in asked_initially(counted)] == asked

    first = initial_contexts(
        rows, personas, predictions.query("split == 'train'"), DOMAIN, Prompts(), ["refinement"]
    )
    assert len(first.contexts) == contexts(counted, 1)

    def sample(of: pd.DataFrame, n: int) -> pd.DataFrame:
        return sample_candidates(of, sampler, CandidateDraw(Decoding(), n, 0), rows, DOMAIN)

    predict_candidates(sample(first.contexts, N), rows, DOMAIN, setup)
    assert sum(one.requests for one in asked_in(counted, 1, "refinement", N, 1.0)) == chat.since()

    refined = refined_personas(first.contexts, sample(first.contexts, 1))
    second = next_contexts(rows, refined, DOMAIN, setup, "refinement")
    assert len(second.contexts) == contexts(counted, 2)
    by_table = {one.table: 0 for one in asked_in(counted, 2, "paper", N, 1.0)}
    for one in asked_in(counted, 2, "paper", N, 1.0):
        by_table[one.table] += one.requests
    assert by_table["contexts_2"] == chat.since()
    both = of_recipe("paper", first, second)
    predict_candidates(sample(both.contexts, N), rows, DOMAIN, setup)
    assert by_table["candidate_predictions_2"] == chat.since()
    texts = sum(len(seeds) for _, given_, _ in sampler.calls for seeds in given_)
    assert texts == sum(
        one.texts
        for i, by in ((1, "refinement"), (2, "paper"))
        for one in sampled_in(counted, i, by, "refinement", N)
    )

    sampler.calls.clear()
    for method in [*PROMPT_METHODS, "deeper"]:
        way = PROMPT_METHODS.get(method) or by_policy(sampler, PolicyWriting("refinement", Decoding(), 0))
        play_rounds(rows, personas, predictions, method, way, DOMAIN, setup)
        assert sum(one.requests for one in asked_in_rounds(counted, method)) == chat.since(), method
    written = sum(len(prompts) for prompts, _, _ in sampler.calls)
    assert sum(one.texts for one in sampled_in_rounds(counted, "deeper", "refinement")) == written


def test_only_different_candidates_are_asked_about() -> None:
    counted = population(windows([("train", [0, 1, 2, 3])] * 4))
    assert [one.requests for one in asked_in(counted, 1, "refinement", 5, 0.25)] == [4 * 3 * 5 / 4]


def test_personas_have_the_papers_lengths() -> None:
    counted = population(windows([("eval", range(6))]))
    rounds = asked_in_rounds(counted, "inc_update")
    shown = [(one.prompt, one.shown, one.answer) for one in rounds]
    assert shown[:4] == [
        ("inc_update", 245.0, 390.1),
        ("prediction", 390.1, None),
        ("inc_update", 390.1, 459.3),
        ("prediction", 459.3, None),
    ]
    full = [one for one in asked_in_rounds(counted, "full_regen") if one.prompt == "full_regen"]
    assert [(one.windows, one.answer) for one in full] == [(2, 245.0), (3, 245.0), (4, 245.0), (5, 245.0)]
    merged = asked_in_rounds(counted, "hier_merge")[1]
    assert (merged.prompt, merged.shown, merged.answer) == ("merge_personas", 245.0 + 245.0, 325.3)


def test_the_papers_users() -> None:
    assert sum(one.train for one in PAPER.values()) == 10_800
    assert sum(one.evaluation for one in PAPER.values()) == 4_809
    some = paper_population("book", 50, None)
    assert {split: n for (split, _), n in some.items()} == {"train": 50, "eval": 897}
    assert contexts(some, 1) == contexts(some, 2) == 50


@pytest.mark.parametrize(("has", "first", "second"), [([0, 1], 1, 0), ([0, 2], 0, 0), ([0, 1, 2], 1, 1)])
def test_a_context_of_round_2_needs_one_of_round_1(has: list[int], first: int, second: int) -> None:
    counted = population(windows([("train", has), ("eval", range(7))]))
    assert (contexts(counted, 1), contexts(counted, 2)) == (first, second)
