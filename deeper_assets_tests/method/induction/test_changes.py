import pandas as pd
import pytest

from deeper_assets.method.induction.changes import changes_table, planted_changes

START = pd.Timestamp("2021-01-01")


def day(number: float) -> pd.Timestamp:
    return START + pd.Timedelta(days=number)


EVENTS = pd.DataFrame(
    [("book", "u", "eval", session, 0, session, day(session)) for session in range(6)],
    columns=["domain", "user_id", "split", "session", "event", "window", "happened_at"],
)
"""A window is a session of one event a day, from day 0 to day 5."""

MEMORIES = EVENTS.assign(memory=EVENTS["session"])[["domain", "user_id", "memory", "session", "event"]]


def changes(
    themes: str, lives: dict[str, tuple[float, float | None]], sets: dict[int, list[str]]
) -> dict[str, int]:
    """What becomes of each theme, by change and theme.

    Args:
        themes: of the event of each session; `-` is noise.
        lives: of each theme, the days from which on and before which it holds.
        sets: window → the personas by id, each the sessions that it rests on; `x` before: it has ended.
    """
    planted = EVENTS[["domain", "user_id", "session", "event"]].assign(
        theme=[None if theme == "-" else theme for theme in themes]
    )
    personas = pd.DataFrame(
        [
            ("book", "u", theme, day(since), pd.NaT if until is None else day(until))
            for theme, (since, until) in lives.items()
        ],
        columns=["domain", "user_id", "theme", "since", "until"],
    )
    rows = [
        (window, number, "ended" if held.startswith("x") else "same", held.strip("x"))
        for window, own in sets.items()
        for number, held in enumerate(own)
        if held
    ]
    keys = {"domain": "book", "inducer": "clusters", "user_id": "u"}
    made = pd.DataFrame(rows, columns=["window", "persona", "state", "held"]).assign(**keys)
    members = made.assign(memory=made["held"].map(list)).explode("memory").astype({"memory": "int64"})
    columns = [*keys, "window", "persona"]
    table = planted_changes(
        made[[*columns, "state"]],
        members[[*columns, "memory"]],
        MEMORIES,
        EVENTS,
        personas,
        planted,
        "clusters",
    )
    return {f"{row['change']} {row['theme']}": row["noticed"] for row in table.to_dict("records")}


def test_a_persona_that_begins_is_noticed_within_two_windows() -> None:
    life = {"a": (2.0, None)}
    assert changes("--aaaa", life, {4: ["234"]}) == {"begins a": 1}
    assert changes("--aaaa", life, {5: ["2345"]}) == {"begins a": 0}
    assert changes("--aaaa", life, {4: ["x23"], 5: ["2345"]}) == {"begins a": 0}, "one that has ended is none"
    assert changes("----aa", {"a": (4.0, None)}, {5: ["45"]}) == {}, "too late to say"


def test_a_persona_that_ends_is_noticed_if_there_was_one() -> None:
    life = {"a": (0.0, 2.0)}
    still = {window: ["01"] for window in range(1, 6)}
    assert changes("aa----", life, still) == {"ends a": 0}
    assert changes("aa----", life, {1: ["01"], 2: ["01"], 3: ["01"], 4: []}) == {"ends a": 1}
    assert changes("aa----", life, {2: ["01"]}) == {}


def test_a_persona_that_stays_keeps_its_id() -> None:
    life = {"a": (0.0, None)}
    assert changes("aaaaaa", life, {1: ["01"], 5: ["012345"]}) == {"stays a": 1}
    assert changes("aaaaaa", life, {1: ["01"], 5: ["", "012345"]}) == {"stays a": 0}
    assert changes("aaaaaa", life, {1: ["01"]}) == {}, "it is not there at last"


def test_a_persona_is_about_what_half_of_its_events_belong_to() -> None:
    life = {"a": (0.0, None), "b": (0.0, None)}
    assert changes("a-bbbb", life, {1: ["01"], 5: ["01"]}) == {"stays a": 1}
    assert changes("a--bbb", life, {2: ["012"], 5: ["012"]}) == {}


def test_the_table_is_of_evaluation_users() -> None:
    rows = pd.DataFrame(
        [("u", "eval", 1), ("u", "eval", 0), ("v", "eval", 1), ("w", "train", 0)],
        columns=["user_id", "split", "noticed"],
    ).assign(domain="book", inducer="clusters", change="begins")
    [row] = changes_table(rows, seed=1).to_dict("records")
    assert (row["inducer"], row["change"], row["personas"]) == ("clusters", "begins", 3)
    assert row["noticed"] == pytest.approx(0.75)
    assert 0.5 <= row["noticed_low"] <= 0.75 <= row["noticed_high"] <= 1
    assert changes_table(rows[:0], seed=1).empty
