import json

import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import find_domain
from deeper_assets.method.induction.judging import judged_claims, set_rewards
from deeper_assets.method.induction.sets import Remembered
from deeper_assets.method.prompts import Prompts
from deeper_assets_tests.fakes import ScriptedChat

BOOK = find_domain("book")
PLACE = {"domain": "book", "user_id": "u", "window": 2}


def remembers(name: str, *themes: tuple[int, int], trains: bool = True) -> Remembered:
    """A memory of one event for each window and theme."""
    windows, of = np.array(themes).reshape(-1, 2).T
    numbers = np.arange(len(windows))
    return Remembered(name, trains, numbers, windows, windows, np.ones_like(windows), np.eye(4)[of])


U = remembers("u", (0, 0), (1, 0), (2, 1), (3, 0), (3, 2))
"""Theme 0 in windows 0, 1 and 3, the next one; theme 1 in window 2; theme 2 in window 3."""

CONTEXTS = pd.DataFrame([{**PLACE, "groups": 2, "prompt": "p"}])
GROUPS = pd.DataFrame(
    [{**PLACE, "group": group, "memory": memory} for group, memory in ((0, 0), (0, 1), (1, 2))]
)


def candidates(*sets: list[tuple[int, str]]) -> pd.DataFrame:
    """Sets of personas, each a group (1-based) and a description."""
    texts = [
        json.dumps([{"groups": [group], "label": "some", "description": said} for group, said in personas])
        for personas in sets
    ]
    rows = [
        {**PLACE, "candidate": number, "text": text, "unusable": None} for number, text in enumerate(texts)
    ]
    return pd.DataFrame(rows)


def rewards(
    others: list[Remembered], made: pd.DataFrame, judged: pd.DataFrame, user: Remembered = U
) -> pd.DataFrame:
    return set_rewards(CONTEXTS, GROUPS, made, judged, [user, *others], 0.5)


JUDGED = pd.DataFrame(
    [
        {**PLACE, "claim": claim, "shown_by": shown, "contradicted": against}
        for claim, shown, against in (
            ("Likes war.", "0,1", 0),
            ("Likes love.", "2", 0),
            ("Likes tea.", "", 0),
        )
    ]
)


def test_every_component_by_hand() -> None:
    others = [remembers("o", (3, 0)), remembers("p", (3, 3)), remembers("q", (2, 0))]
    [row] = rewards(others, candidates([(1, "Likes war. Likes tea."), (2, "Likes war.")]), JUDGED).to_dict(
        "records"
    )
    # Of two claims one is shown, by its own persona's memories and by any.
    assert (row["alignment"], row["truthfulness"]) == (0.5, 0.5)
    # Group 0 has two memories of one direction; group 1 has a lone one.
    assert (row["cohesion"], row["separation"]) == (1.0, pytest.approx(2 / 3))
    # Half of the next window is near a persona. Of others who have a next window, `o` and not `p` does so.
    assert row["lift"] == pytest.approx(0.5 - 0.5)
    assert row["recurrence"] == 0.5


def test_who_has_no_next_window_says_nothing_of_others() -> None:
    others = [remembers("o", (3, 0)), *(remembers(f"q{number}", (2, 0)) for number in range(8))]
    [row] = rewards(others, candidates([(1, "Likes war.")]), JUDGED).to_dict("records")
    assert row["lift"] == pytest.approx(0.5 - 1.0)


def test_nobody_is_compared_with_themselves() -> None:
    [row] = rewards([], candidates([(1, "Likes war.")]), JUDGED).to_dict("records")
    assert row["lift"] == 0.5


def test_a_next_window_that_nobody_could_read_is_unknown_also_of_the_empty_set() -> None:
    silent = remembers("u", (0, 0), (1, 0), (2, 1))
    made = rewards([remembers("o", (3, 0))], candidates([(1, "Likes war.")], []), JUDGED, silent)
    assert made[["lift", "recurrence"]].isna().all(axis=None)
    assert made[["cohesion", "separation", "alignment", "truthfulness"]].notna().all(axis=None)


def test_a_judge_sees_each_claim_once_and_no_memory_of_later_windows() -> None:
    memories = pd.DataFrame(
        [("u", number, window, f"theme {number}") for number, window in enumerate((0, 1, 2, 3))],
        columns=["user_id", "memory", "window", "intent"],
    )
    answer = json.dumps([{"claim": 1, "shown_by": [3]}, {"claim": 2, "shown_by": None, "contradicted": True}])
    chat = ScriptedChat(lambda prompt, _: answer)
    made = candidates([(1, "Likes war."), (2, "Hates love.")], [(1, "Likes war.")])
    judged = judged_claims(CONTEXTS, made, memories, BOOK, ChatSetup(chat, Prompts(), 1))
    [(prompt, _)] = chat.asked
    assert prompt.count("Likes war.") == 1
    assert "theme 2" in prompt
    assert "theme 3" not in prompt
    told = judged[["claim", "shown_by", "contradicted", "note"]].values.tolist()
    assert told == [["Hates love.", "2", 0, None], ["Likes war.", "", 1, None]]
