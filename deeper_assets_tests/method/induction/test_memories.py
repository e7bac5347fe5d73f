import json

import pandas as pd
import pytest

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.memories import LONGEST_INTENT, Intent, parse_intents, read_sessions
from deeper_assets.method.parsing import REASONS
from deeper_assets.method.prompts import Prompts
from deeper_assets_tests.fakes import ScriptedChat

BOOK = find_domain("book")


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ('[{"intent": "war", "events": [1, 3]}]', [("war", (0, 2))]),
        (
            '[{"intent": "war", "events": [3, 1, 3]}, {"intent": "love", "events": 2}]',
            [("war", (0, 2)), ("love", (1,))],
        ),
        ('Here it is:\n```json\n[{"Intent": " war ", "Events": ["2"]}]\n```', [("war", (1,))]),
        (
            '<think>[{"intent": "x", "events": [9]}]</think>[{"intent": "war", "events": [1]}]',
            [("war", (0,))],
        ),
        ('{"intents": 1} [{"intent": "war", "events": [1.0]}]', [("war", (0,))]),
        ('[{"intent": "a <b>\\n c", "events": [1]}]', [("a ‹b› c", (0,))]),
        ("[]", []),
        ('{"intent": "war", "events": [1]}', [("war", (0,))]),
        ('{"intents": [{"intent": "war", "events": [1]}]}', [("war", (0,))]),
        ('[{"intent": "war", "events": [1]}] Others: []', [("war", (0,))]),
    ],
)
def test_intents_are_read(answer: str, read: list[tuple[str, tuple[int, ...]]]) -> None:
    assert parse_intents(answer, 3) == tuple(Intent(text, events) for text, events in read)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no_answer"),
        ("Nothing.", "no_json"),
        ('[{"intent": "war", "events": [1]}', "no_json"),
        ("[1, 2]", "no_json"),
        ('[{"intent": "war", "events": [4]}]', "no_such_number"),
        ('[{"intent": "war", "events": [0]}]', "no_such_number"),
        ('[{"intent": "war", "events": [1.5]}]', "no_such_number"),
        ('[{"intent": "war", "events": [1e999]}]', "no_such_number"),
        ('[{"intent": "war", "events": [true]}]', "no_such_number"),
        ('[{"intent": "war", "events": ["٣"]}, {"intent": "x", "events": ["x"]}]', "no_such_number"),
        ('[{"intent": "war"}]', "no_such_number"),
        ('[{"intent": "war", "events": []}]', "no_evidence"),
        ('[{"intent": "12", "events": [1]}]', "no_intent"),
        ('[{"intent": 7, "events": [1]}]', "no_intent"),
        ('[{"events": [1]}]', "no_intent"),
        (json.dumps([{"intent": "w" * (LONGEST_INTENT + 1), "events": [1]}]), "no_intent"),
        ("[" * 100_000, "no_json"),
    ],
)
def test_whatever_is_no_list_of_intents_is_unreadable(answer: str | None, reason: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{reason}$"):
        parse_intents(answer, 3)
    assert reason in REASONS


def events(*rows: tuple[str, int, int, str, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "session", "event", "text", "sign"])
    return frame.assign(domain="book", window=frame["session"] // 2)


def test_memories_cite_their_events_and_every_session_is_accounted_for() -> None:
    done = events(
        ("u", 0, 0, "A", 1),
        ("u", 0, 2, "B", -1),
        ("u", 1, 0, "C", 0),
        ("u", 2, 0, "D", 0),
        ("v", 0, 0, "E", 0),
    )
    answers = {
        "A": '[{"intent": "both", "events": [1, 2]}, {"intent": "second", "events": [2]}]',
        "C": "no",
        "D": "[]",
        "E": '[{"intent": "e", "events": [1]}]',
    }
    chat = ScriptedChat(
        lambda prompt, _: next(text for title, text in answers.items() if f": {title}" in prompt)
    )
    read = read_sessions(done.sample(frac=1, random_state=1), BOOK, ChatSetup(chat, Prompts(), asks=2))
    assert "<events>\n- 1 (liked): A\n- 2 (disliked): B\n</events>" in chat.asked[0][0]
    assert read.memories.values.tolist() == [
        ["book", "u", 0, 0, 0, "both"],
        ["book", "u", 1, 0, 0, "second"],
        ["book", "v", 0, 0, 0, "e"],
    ]
    assert read.memory_events[["user_id", "memory", "session", "event"]].values.tolist() == [
        ["u", 0, 0, 0],
        ["u", 0, 0, 2],
        ["u", 1, 0, 2],
        ["v", 0, 0, 0],
    ]
    told = read.session_readings[["user_id", "session", "window", "events", "note", "attempts"]]
    assert told.astype(object).where(told.notna(), None).values.tolist() == [
        ["u", 0, 0, 2, None, 1],
        ["u", 1, 0, 1, "no_json", 2],
        ["u", 2, 1, 1, None, 1],
        ["v", 0, 0, 1, None, 1],
    ]
