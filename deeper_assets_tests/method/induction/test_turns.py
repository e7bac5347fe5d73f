import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.induction.turns import moment_of, turns_of


def done(*rows: tuple[str, str, int, str], hours: bool = False) -> pd.DataFrame:
    """Events: user, split, window and item; a window is a session, and an hour passes from event to event."""
    frame = pd.DataFrame(rows, columns=["user_id", "split", "window", "item_id"])
    frame = frame.assign(session=frame["window"], text=frame["item_id"].str.upper(), kind=None, domain="book")
    frame["event"] = frame.groupby(["user_id", "session"]).cumcount()
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(range(len(frame)), "h")
    return frame.assign(happened_at=times if hours else pd.NaT, sign=0, file=None, line=None)


EVENTS = done(
    ("t", "train", 0, "a"),
    ("t", "train", 0, "b"),
    ("t", "train", 1, "a"),
    ("e", "eval", 0, "c"),
    ("e", "eval", 1, "a"),
    ("e", "eval", 1, "a"),
    ("e", "eval", 3, "d"),
    ("s", "short", 0, "b"),
)


def test_a_turn_has_what_came_before_and_what_comes_next() -> None:
    turns = turns_of(EVENTS.sample(frac=1, random_state=0))
    assert turns.items == ["a", "b", "c", "d"]
    assert turns.texts == ["A", "B", "c", "d"], "what nobody else had has its name alone"
    asked = [(turn.user_id, turn.window, turn.so_far.tolist(), turn.ahead.tolist()) for turn in turns.asked]
    assert asked == [("e", 0, [2], [0]), ("e", 1, [2, 0, 0], [3])], "the window 2 is not there"
    assert [(turn.user_id, turn.window) for turn in turns.practice] == [("t", 0)]
    assert not turns.once


def test_others_are_training_users_and_never_oneself() -> None:
    crowd = turns_of(EVENTS).crowd
    assert crowd.popularity("e").tolist() == [2, 1, 0, 0]
    assert crowd.popularity("t").tolist() == [0, 0, 0, 0]
    nobody_trains = turns_of(EVENTS[EVENTS["split"] == "eval"])
    assert [(turn.user_id, turn.window) for turn in nobody_trains.practice] == [("e", 0), ("e", 1)]
    assert nobody_trains.crowd.popularity("e").tolist() == [0, 0, 0]
    assert nobody_trains.crowd.popularity("other").tolist() == [2, 1, 1]


def test_ratings_come_once() -> None:
    assert turns_of(EVENTS.assign(kind="rating")).once


def test_an_item_without_an_id_is_known_by_its_text() -> None:
    nameless = EVENTS.assign(item_id=EVENTS["item_id"].where(EVENTS["item_id"] != "b"))
    assert turns_of(nameless).items == ["B", "a", "c", "d"]


def test_with_times_one_moment_cuts_the_domain() -> None:
    """The median of four hours of training is the third: what began before it is learned, the rest asked."""
    events = done(
        ("t", "train", 0, "a"),  # 0:00
        ("t", "train", 1, "b"),
        ("e", "eval", 0, "a"),  # 2:00
        ("e", "eval", 1, "b"),
        ("t", "train", 2, "c"),  # 4:00, the median
        ("e", "eval", 2, "c"),
        ("t", "train", 3, "d"),  # 6:00
        hours=True,
    )
    assert moment_of(events) == pd.Timestamp("2020-01-01 04:00")
    turns = turns_of(events)
    assert [(turn.user_id, turn.window) for turn in turns.practice] == [("t", 0)]
    assert [(turn.user_id, turn.window) for turn in turns.asked] == [("e", 1)]
    assert turns.asked[0].now == pd.Timestamp("2020-01-01 03:00")
    assert turns.crowd.popularity("e").tolist() == [1, 1, 0, 0]
    assert turns.learned.values.tolist() == [["t", 0], ["t", 1]]


def test_one_event_without_a_time_leaves_the_split_of_users_alone() -> None:
    events = done(("t", "train", 0, "a"), ("e", "eval", 0, "a"), ("e", "eval", 1, "b"), hours=True)
    events.loc[0, "happened_at"] = pd.NaT
    assert moment_of(events) is None
    assert [(turn.user_id, turn.window) for turn in turns_of(events).asked] == [("e", 0)]


@pytest.mark.parametrize("rows", [0, 1])
def test_few_events_are_no_error(rows: int) -> None:
    turns = turns_of(EVENTS[:rows])
    assert (turns.asked, turns.practice) == ([], [])
    assert np.asarray(turns.crowd.every).sum() == rows


def test_of_many_turns_some_are_for_practice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeper_assets.method.induction.turns.MOST_PRACTICE", 3)
    many = done(*((user, "train", window, "a") for user in "tuv" for window in range(3)))
    turns = [(turn.user_id, turn.window) for turn in turns_of(many).practice]
    assert len(turns) == 3
    assert turns == sorted(turns)
    others = [(turn.user_id, turn.window) for turn in turns_of(many.sample(frac=1, random_state=2)).practice]
    assert others == turns


def test_the_text_of_an_item_is_that_of_others_by_then() -> None:
    """What the asked user calls it in the next window is what is asked, and nobody knows it yet."""
    events = done(
        ("t", "train", 0, "a"),
        ("e", "eval", 0, "b"),
        ("t", "train", 1, "a"),
        ("e", "eval", 1, "a"),
        hours=True,
    )
    events.loc[events["user_id"] == "e", "text"] = "A WORD OF THE FUTURE"
    events.loc[2, "text"] = "AA"  # the moment is that of this event, so it is no earlier one
    assert turns_of(events).texts == ["A", "b"]


def test_a_window_that_is_not_all_to_come_is_not_asked() -> None:
    """Sessions that a log names may overlap: the first one goes on after the second has ended."""
    events = done(
        *(("t", "train", 0, "a"), ("e", "eval", 0, "a"), ("e", "eval", 1, "b"), ("e", "eval", 0, "c")),
        hours=True,
    )
    assert [turn.window for turn in turns_of(events).asked] == []
    after = events.assign(happened_at=events["happened_at"].to_numpy()[[0, 1, 3, 2]])
    assert [turn.window for turn in turns_of(after).asked] == [0]
