"""Controls: what stands in the persona's place, and whose."""

import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.offline.language import Reading, read
from deeper_assets.method.asking import NO_PERSONA, ChatSetup
from deeper_assets.method.controls import (
    CONTROLS,
    HABITS,
    NOTHING_KNOWN,
    PREDICTION_COLUMNS,
    Donor,
    control_predictions,
    habit_sentence,
    shuffled,
)
from deeper_assets.method.domains import FIVE_STARS, Domain, Scale
from deeper_assets.method.leaks import states_score
from deeper_assets.method.prompts import Prompts
from deeper_assets_tests.fakes import ScriptedChat

BOOK = Domain("book", "book", FIVE_STARS, seen=True)


def windows(ratings: dict[str, list[list[float]]], split: str = "eval") -> pd.DataFrame:
    """User → the ratings of each window; titles say user, window and place."""
    rows = [
        (user, split, window, place, f"{user}{window}{place}", rating)
        for user, history in ratings.items()
        for window, marks in enumerate(history)
        for place, rating in enumerate(marks)
    ]
    return pd.DataFrame(rows, columns=["user_id", "split", "window", "place", "title", "rating"])


def personas(of: dict[tuple[str, int], str | None]) -> pd.DataFrame:
    rows = [(user, round_, persona) for (user, round_), persona in of.items()]
    return pd.DataFrame(rows, columns=["user_id", "round", "persona"])


def always_three(prompt: str, _: int) -> str:
    titles = re.findall(r"^- (.*)$", prompt.split("<items>")[1], re.M)
    return json.dumps([{"item": title, "rating": 3} for title in titles])


def predicted(
    control: str, rated: pd.DataFrame, written: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """What a control predicts, and what was asked."""
    chat = ScriptedChat(always_three)
    given_ = personas({}) if written is None else written
    rows = control_predictions(rated, given_, control, BOOK, ChatSetup(chat, Prompts(), 1))
    return rows, [prompt for prompt, _ in chat.asked]


def place_of_persona(prompt: str) -> str:
    found = re.search(r"(<(persona|ratings)>.*</\2>)\n\n", prompt.split("<items>", 1)[0], re.DOTALL)
    assert found is not None
    return found[1]


# ------------------------------------------------------------------------------------------ one sentence


@pytest.mark.parametrize("level", HABITS)
def test_the_stand_in_reads_the_sentence_at_exactly_its_level_and_no_taste(level: float) -> None:
    reading = read(f"As a rule this person {HABITS[level]}.")
    assert reading.level == level
    assert reading.degrees == {}


@pytest.mark.parametrize("phrase", HABITS.values())
def test_the_sentence_states_no_score(phrase: str) -> None:
    assert not states_score(f"As a rule this person {phrase}.")


def test_the_sentence_says_the_level_nearest_to_the_median() -> None:
    said = {
        (5.0, 5.0, 1.0): 1.0,  # the median is 5
        (4.0, 5.0): 0.875,  # 4.5
        (4.0,): 0.75,
        (3.0, 4.0): 0.625,
        (3.0, 1.0, 5.0): 0.5,
        (2.0,): 0.25,
        (1.0,): 0.0,
    }
    for ratings, level in said.items():
        assert habit_sentence(ratings, FIVE_STARS) == f"As a rule this person {HABITS[level]}."
    # From 0.5 to 5 the mark 4 lies at 0.78.
    assert habit_sentence([4.0], Scale(0.5, 5, 0.5)) == f"As a rule this person {HABITS[0.75]}."


def test_the_sentence_is_from_all_windows_so_far_and_none_later() -> None:
    rows, asked = predicted("control_habit", windows({"u": [[5.0], [1.0], [1.0], [3.0]]}))
    levels = [1.0, 0.5, 0.0]  # the median of 5; of 5, 1; of 5, 1, 1
    expected = [f"<persona>\nAs a rule this person {HABITS[level]}.\n</persona>" for level in levels]
    assert [place_of_persona(prompt) for prompt in asked] == expected
    assert rows[["round", "window", "place", "predicted"]].values.tolist() == [
        *([0, 1, 0, 3.0], [1, 2, 0, 3.0], [2, 3, 0, 3.0])
    ]
    assert list(rows) == PREDICTION_COLUMNS
    assert set(rows["control"]) == {"control_habit"}


# ------------------------------------------------------------------------------------------ ratings, nothing


def test_the_ratings_so_far_stand_where_the_persona_stood() -> None:
    _, asked = predicted("control_history", windows({"u": [[5.0], [1.5], [2.0]]}))
    assert place_of_persona(asked[1]) == (
        "<ratings>\n- rated 5: u00\n</ratings>\n<ratings>\n- rated 1.5: u10\n</ratings>"
    )
    assert "<persona>" not in asked[1]
    assert [prompt.split("<items>\n")[1].split("\n</items>")[0] for prompt in asked] == ["- u10", "- u20"]


def test_of_nobody_nothing_is_known() -> None:
    _, asked = predicted("control_none", windows({"u": [[5.0], [1.0]]}))
    assert [place_of_persona(prompt) for prompt in asked] == [f"<persona>\n{NOTHING_KNOWN}\n</persona>"]
    assert read(NOTHING_KNOWN) == Reading()


def test_a_window_that_is_missing_is_not_predicted_and_training_users_are_not() -> None:
    gap = windows({"u": [[5.0], [1.0], [1.0, 2.0]], "v": [[1.0]]}).query("window != 1")
    rows, _ = predicted("control_none", pd.concat([gap, windows({"t": [[1.0], [1.0]]}, "train")]))
    assert rows[["user_id", "round", "window", "place"]].values.tolist() == [["u", 1, 2, 0], ["u", 1, 2, 1]]


def test_the_stand_in_predicts_from_ratings_as_from_the_persona_it_would_write_of_them() -> None:
    chat = ChatSetup(OfflineChatModel(), Prompts(), 1)
    rated = windows({"u": [[5.0, 1.0], [5.0, 1.0]]})
    rated["title"] = ["A Mystery of Murder", "The Cookbook of Recipes"] * 2
    rows = control_predictions(rated, personas({}), "control_history", BOOK, chat)
    murder, cookbook = rows["predicted"]
    assert murder > cookbook


# ------------------------------------------------------------------------------------------ somebody else's


def test_everyone_is_given_the_persona_of_another_of_the_same_round() -> None:
    rated = windows({user: [[5.0], [1.0], [3.0]] for user in "abcde"})
    written = personas({(user, round_): f"{user}{round_}" for user in "abcde" for round_ in (0, 1, 2)})
    rows, asked = predicted("control_shuffled", rated, written)
    assert (rows["persona_of"] != rows["user_id"]).all()
    for _, of_round in rows.groupby("round"):
        assert sorted(of_round["persona_of"]) == list("abcde")
    stands = [place_of_persona(prompt).split("\n")[1] for prompt in asked]
    assert stands == [
        f"{other}{round_}" for other, round_ in zip(rows["persona_of"], rows["round"], strict=True)
    ]


def test_one_who_is_alone_is_not_asked_for() -> None:
    rows, asked = predicted("control_shuffled", windows({"u": [[5.0], [1.0]]}), personas({("u", 0): "own"}))
    assert asked == []
    assert rows[["predicted", "note", "attempts", "persona_of"]].isna().values.tolist() == [
        [True, False, False, True]
    ]
    assert rows["note"].tolist() == [NO_PERSONA]


def test_the_persona_of_a_short_history_is_given_to_nobody() -> None:
    rated = pd.concat([windows({"u": [[5.0], [1.0]]}), windows({"s": [[5.0], [1.0]]}, "short")])
    rows, asked = predicted("control_shuffled", rated, personas({("u", 0): "own", ("s", 0): "short"}))
    assert (rows["user_id"].tolist(), asked) == (["u"], [])


def test_a_persona_that_could_not_be_read_is_given_to_nobody() -> None:
    written = personas({("a", 0): None, ("b", 0): "of b", ("c", 0): "of c"})
    got = shuffled(written, [(user, 0) for user in "abc"], "book")
    assert got["b", 0] == Donor("c", "of c")
    assert got["c", 0] == Donor("b", "of b")
    assert got["a", 0] in {Donor("b", "of b"), Donor("c", "of c")}
    assert shuffled(written, [("a", 1)], "book") == {}


@given(st.sets(st.text(min_size=1, max_size=3), min_size=2))
def test_where_all_have_a_persona_it_is_a_derangement_in_any_order(
    users: set[str],
) -> None:
    written = personas({(user, 0): user for user in users})
    got = shuffled(written, [(user, 0) for user in users], "book")
    assert {donor.user_id for donor in got.values()} == users
    assert all(donor.user_id != user for (user, _), donor in got.items())
    again = shuffled(written.iloc[::-1], [(user, 0) for user in sorted(users)], "book")
    assert again == got


def test_every_control_is_described_and_predicts() -> None:
    rated = windows({user: [[5.0], [1.0]] for user in "ab"})
    written = personas({("a", 0): "A.", ("b", 0): "B."})
    for control in CONTROLS:
        rows, asked = predicted(control, rated, written)
        assert rows["predicted"].tolist() == [3.0, 3.0], control
        assert rows["placed"].tolist() == ["name", "name"], control
        assert len(asked) == 2
