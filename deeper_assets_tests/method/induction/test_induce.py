from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.induce import ByClusters, Induced, Kept, induce, parse_label, users_of
from deeper_assets.method.induction.sets import Inducer, Label, Remembered
from deeper_assets.method.prompts import Prompts
from deeper_assets_tests.fakes import ScriptedChat

BOOK = find_domain("book")
LABEL = '{"label": "war", "description": "Reads of war."}'


@pytest.mark.parametrize("answer", [LABEL, f"```json\n{LABEL}\n```", f"<think>{{}}</think>So: {LABEL}"])
def test_a_label_is_read(answer: str) -> None:
    assert parse_label(answer) == Label("war", "Reads of war.")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no_answer"),
        ("War.", "no_json"),
        ('["war", "Reads of war."]', "no_json"),
        ('{"label": "war"}', "no_label"),
        ('{"label": 3, "description": "x"}', "no_label"),
        ('{"label": "--", "description": "x"}', "no_label"),
        (f'{{"label": "{"w" * 121}", "description": "x"}}', "no_label"),
    ],
)
def test_whatever_is_no_label_is_unreadable(answer: str | None, reason: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{reason}$"):
        parse_label(answer)


class Themes:
    """An embedder that reads the number of a theme at the end of a text."""

    name, reach = "themes", 0.5

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> np.ndarray:
        return np.eye(4)[[int(text[-1]) for text in texts]]


def remembered_table() -> pd.DataFrame:
    """`u` turns to theme 0 again and again, from window 0 on; the others to themes 1 to 3."""
    rows = [("u", "train", memory, memory, 0) for memory in range(8)]
    rows += [(name, "eval", memory, memory, 1 + memory % 3) for name in ("v", "w") for memory in range(8)]
    table = pd.DataFrame(rows, columns=["user_id", "split", "memory", "session", "theme"])
    table = table.assign(window=table["session"] // 4, domain="book", event=0)
    table["intent"] = "theme " + table["theme"].astype(str)
    return table


def made(chat: ScriptedChat, inducer: Inducer = "clusters") -> Induced:
    """What is induced of `remembered_table`."""
    table = remembered_table()
    setup = ChatSetup(chat, Prompts(), asks=1)
    users, _ = users_of(table, table, table, Themes())
    writer = chat.name if inducer == "clusters" else None
    return induce(table, users, table, ByClusters(inducer, 0.3, 0.5), inducer, 1, BOOK, setup, writer)


def test_sets_follow_each_window_and_name_their_evidence() -> None:
    chat = ScriptedChat(lambda prompt, _: LABEL)
    induced = made(chat)
    of_v = induced.persona_sets[induced.persona_sets["user_id"] == "v"]
    assert (of_v["label"] == "war").all()
    assert set(of_v["window"]) == {0, 1}
    # Compared with `u` alone, who trains, theme 1 is more than chance after window 0; all three are after 1.
    last = of_v[of_v["window"] == 1]
    assert list(last["memories"]) == [3, 3, 2]
    cited = induced.persona_memories.merge(last[["user_id", "window", "persona"]])
    assert sorted(cited["memory"]) == list(range(8)), "a memory has one persona"
    asked = [prompt for prompt, _ in chat.asked]
    assert len(asked) == len(set(asked)), "the same memories are asked about once"
    dropped = induced.dropped_personas.set_index("user_id")["reason"]
    assert set(dropped["u"]) == {"alone"}, "nobody else trains"
    assert set(dropped["v"]) == {"once"}, "theme 3 came once by the end of window 0"


def test_an_unreadable_label_leaves_the_persona_with_its_evidence() -> None:
    sets = made(ScriptedChat(lambda prompt, _: "no")).persona_sets
    assert sets["label"].isna().all()
    assert set(sets["note"]) == {"no_json"}
    assert (sets["memories"] > 0).all()


def test_what_is_only_measured_gets_no_words() -> None:
    chat = ScriptedChat(lambda prompt, _: LABEL)
    induced = made(chat, "every_cluster")
    assert chat.asked == []
    assert induced.persona_sets["model"].isna().all()
    assert induced.dropped_personas.empty


class Silent:
    """A maker that says nothing of a window."""

    of_all = True

    def __init__(self, silent: int) -> None:
        self.silent, self.speaks = silent, ByClusters("every_cluster", 0.3, 0.5)

    def __call__(
        self, users: Sequence[Remembered], others: Sequence[Remembered], window: int, now: Sequence[int]
    ) -> Sequence[Kept | None]:
        made = self.speaks(users, others, window, now)
        return [None] * len(users) if window == self.silent else made


@pytest.mark.parametrize("silent", [0, 1])
def test_an_unread_set_is_the_one_before(silent: int) -> None:
    table = remembered_table()
    users, _ = users_of(table, table, table, Themes())
    setup = ChatSetup(ScriptedChat(lambda prompt, _: LABEL), Prompts(), asks=1)
    sets = induce(table, users, table, Silent(silent), "some", 1, BOOK, setup, "somebody").persona_sets
    of_v = sets[sets["user_id"] == "v"]
    first, second = (of_v[of_v["window"] == window] for window in (0, 1))
    if silent == 0:
        assert first.empty
        assert set(second["state"]) == {"new"}
    else:
        assert set(second["state"]) == {"same"}
        assert list(second["memories"]) == list(first["memories"])
    assert set(of_v["model"]) == {"somebody"}
