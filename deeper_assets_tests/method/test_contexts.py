"""Contexts of both rounds, with a chat model and a policy whose every answer is written here."""

import math
import re

import pandas as pd
import pytest

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import CandidateDraw, sample_candidates
from deeper_assets.method.contexts import (
    Contexts,
    initial_contexts,
    next_contexts,
    of_recipe,
    refined_personas,
)
from deeper_assets.method.domains import find_domain
from deeper_assets.method.initial import initial_personas, initial_predictions
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.fakes import ScriptedChat, ScriptedSampler
from deeper_assets_tests.method.test_rounds import always, windows

BOOK = find_domain("book")
PROMPTS = Prompts.load({}, persona_words=20)
GREEDY = Decoding(temperature=0)
FULL = [[5.0, 4.0]] * 5


def steady(prompt: str, attempt: int) -> str:
    return always(3, prompt) if "<items>" in prompt else "A reader of many kinds of books."


def first(chat: ScriptedChat, frame: pd.DataFrame, *templates: str) -> Contexts:
    setup = ChatSetup(chat, PROMPTS, 1)
    personas = initial_personas(frame, BOOK, setup)
    predictions = initial_predictions(frame, personas, BOOK, setup)
    chat.asked.clear()
    shuffled = frame.sample(frac=1, random_state=1)
    asked = templates or ("refinement",)
    return initial_contexts(shuffled, personas[::-1], predictions[::-1], BOOK, PROMPTS, asked)


def second(chat: ScriptedChat, frame: pd.DataFrame, sampler: ScriptedSampler) -> Contexts:
    one = first(chat, frame)
    samples = sample_candidates(one.contexts, sampler, CandidateDraw(GREEDY, 1, 7), frame, BOOK)
    personas = refined_personas(one.contexts, samples)
    return next_contexts(frame, personas, BOOK, ChatSetup(chat, PROMPTS, 1), "refinement")


def writes(text: str, finished: bool = True) -> ScriptedSampler:
    return ScriptedSampler(lambda prompt, seed: Sample(text, 5, finished))


def items(user: str, window: int, *ratings: float) -> list[RatedItem]:
    return [RatedItem(f"Title {user} {window} {place}", rating) for place, rating in enumerate(ratings)]


def test_the_first_contexts_reuse_what_was_predicted_and_ask_nothing() -> None:
    chat = ScriptedChat(steady)
    got = first(chat, windows({"t": ("train", FULL), "e": ("eval", FULL)}))
    assert chat.asked == []
    (context,) = got.contexts.to_dict("records")
    assert list(context) == list(TABLES["contexts_1"].column_names)
    assert context["prompt"] == PROMPTS.refinement(
        BOOK, "A reader of many kinds of books.", items("t", 1, 5.0, 4.0), [3, 3]
    )
    assert (context["user_id"], context["round"], context["note"]) == ("t", 1, None)
    assert (context["domain"], context["template"], context["model"]) == ("book", "refinement", "scripted-1")
    assert list(got.predictions.columns) == list(TABLES["context_predictions_1"].column_names)
    shown = got.predictions[["user_id", "round", "window", "place", "predicted"]]
    assert shown.values.tolist() == [["t", 1, w, place, 3.0] for w in (0, 1, 2) for place in (0, 1)]


def test_inc_update_shows_ratings_and_no_predictions() -> None:
    got = first(ScriptedChat(steady), windows({"t": ("train", FULL)}), "inc_update")
    expected = PROMPTS.inc_update(BOOK, "A reader of many kinds of books.", items("t", 1, 5.0, 4.0))
    assert got.contexts["prompt"].tolist() == [expected]
    assert got.contexts["template"].tolist() == ["inc_update"]


@pytest.mark.parametrize(
    ("history", "exists"),
    [
        ([[5.0], [5.0], [5.0]], True),
        ([[5.0], [5.0]], True),
        ([[5.0], [], [5.0]], False),  # nothing to learn from
        ([[5.0]], False),
    ],
)
def test_a_context_needs_a_window_to_learn_from_and_another(history: list[list[float]], exists: bool) -> None:
    got = first(ScriptedChat(steady), windows({"t": ("train", history)}))
    assert len(got.contexts) == exists
    assert got.predictions.empty != exists


def test_without_a_persona_there_is_a_note_and_no_prompt() -> None:
    chat = ScriptedChat(lambda prompt, attempt: None if "<items>" not in prompt else always(3, prompt))
    got = first(chat, windows({"t": ("train", FULL)}))
    (context,) = got.contexts.to_dict("records")
    assert (context["prompt"], context["persona"], context["note"]) == (None, None, "no_persona: no_answer")
    assert got.predictions["predicted"].isna().all()


def test_refinement_needs_predictions_of_its_window_and_inc_update_does_not() -> None:
    def answer(prompt: str, attempt: int) -> str:
        return "no idea" if "<items>" in prompt and "Title t 1" in prompt else steady(prompt, attempt)

    frame = windows({"t": ("train", FULL)})
    refining = first(ScriptedChat(answer), frame).contexts.iloc[0]
    assert (refining["prompt"], refining["note"]) == (None, "no_prediction: no_json")
    assert refining["persona"] == "A reader of many kinds of books."
    updating = first(ScriptedChat(answer), frame, "inc_update").contexts.iloc[0]
    assert isinstance(updating["prompt"], str)
    assert updating["note"] is None


def test_unreadable_predictions_of_another_window_leave_the_context() -> None:
    def answer(prompt: str, attempt: int) -> str:
        return "no idea" if "<items>" in prompt and "Title t 2" in prompt else steady(prompt, attempt)

    got = first(ScriptedChat(answer), windows({"t": ("train", FULL)}))
    assert got.contexts["note"].tolist() == [None]
    assert got.predictions.groupby("window")["predicted"].agg(lambda rows: rows.isna().all()).to_dict() == {
        0: False, 1: False, 2: True
    }  # fmt: skip


def test_model_1_gets_the_prompt_of_round_1_and_its_text_predicts_three_windows() -> None:
    chat, sampler = ScriptedChat(steady), writes("Persona: Likes a twist.")
    frame = windows({"t": ("train", FULL), "s": ("train", FULL), "e": ("eval", FULL)})
    got = second(chat, frame, sampler)
    ((prompts, _, decoding),) = sampler.calls
    assert prompts == first(ScriptedChat(steady), frame).contexts["prompt"].tolist()
    assert decoding == GREEDY
    assert got.contexts["persona"].tolist() == ["Likes a twist."] * 2
    assert got.contexts["model"].tolist() == ["scripted-policy-1"] * 2
    assert got.contexts["prompt"].tolist() == [
        PROMPTS.refinement(BOOK, "Likes a twist.", items(user, 2, 5.0, 4.0), [3, 3]) for user in ("s", "t")
    ]
    assert len(chat.asked) == 6
    assert all("Likes a twist." in prompt for prompt, _ in chat.asked)
    assert {
        tuple(map(int, re.findall(r"Title t (\d)", prompt))) for prompt, _ in chat.asked if " t " in prompt
    } == {(1, 1), (2, 2), (3, 3)}
    asked = got.predictions.groupby("user_id")["window"].agg(list).to_dict()
    assert asked == {"s": [1, 1, 2, 2, 3, 3], "t": [1, 1, 2, 2, 3, 3]}
    assert set(got.predictions["round"]) == {2}


@pytest.mark.parametrize(
    ("sampler", "note"),
    [
        (writes("Likes a twi", finished=False), "no_persona: truncated"),
        (writes("..."), "no_persona: empty"),
        (writes("<comparison>\n- Title"), "no_persona: echo"),
    ],
)
def test_an_unusable_refinement_leaves_the_user_without_a_context(
    sampler: ScriptedSampler, note: str
) -> None:
    chat = ScriptedChat(steady)
    got = second(chat, windows({"t": ("train", FULL)}), sampler)
    (context,) = got.contexts.to_dict("records")
    assert (context["prompt"], context["persona"], context["note"], context["round"]) == (None, None, note, 2)
    assert chat.asked == []
    assert got.predictions["predicted"].isna().all()
    assert set(got.predictions["note"]) == {"no_persona"}


def test_who_had_no_prompt_in_round_1_has_none_in_round_2() -> None:
    chat = ScriptedChat(lambda prompt, attempt: None if "<items>" not in prompt else always(3, prompt))
    got = second(chat, windows({"t": ("train", FULL)}), writes("Likes a twist."))
    assert got.contexts["note"].tolist() == ["no_persona: no_answer"]


def test_a_short_history_has_no_second_context() -> None:
    chat = ScriptedChat(steady)
    frame = windows({"a": ("train", [[5.0]] * 2), "b": ("train", [[5.0]] * 3)})
    got = second(chat, frame, writes("Likes a twist."))
    assert got.contexts["user_id"].tolist() == ["b"]
    assert got.predictions["window"].tolist() == [1, 2]  # W3 is missing: the future reward stays unknown


def test_iteration_2_has_the_contexts_of_both_rounds() -> None:
    chat, frame = ScriptedChat(steady), windows({"t": ("train", FULL)})
    got = of_recipe("paper", first(chat, frame), second(chat, frame, writes("Likes a twist.")))
    assert list(got.contexts.columns) == list(TABLES["contexts_2"].column_names)
    assert list(got.predictions.columns) == list(TABLES["context_predictions_2"].column_names)
    assert got.contexts[["recipe", "round"]].values.tolist() == [["paper", 1], ["paper", 2]]
    assert got.predictions.groupby("round")["window"].unique().map(list).to_dict() == {
        1: [0, 1, 2], 2: [1, 2, 3]
    }  # fmt: skip
    assert not math.isnan(got.predictions["predicted"].sum())


def test_nobody_at_all_is_an_empty_frame() -> None:
    chat, frame = ScriptedChat(steady), windows({"e": ("eval", FULL)})
    got = of_recipe("paper", first(chat, frame), second(chat, frame, writes("x")))
    assert got.contexts.empty
    assert got.predictions.empty
