import pandas as pd
import pytest

from deeper_assets.method.induction.scores import (
    events_with_themes,
    induction_table,
    planted_f1,
    planted_scores,
)
from deeper_assets.method.induction.sets import INDUCERS


def test_planted_f1_matches_each_persona_once_and_counts_every_one() -> None:
    assert planted_f1([{1, 2}, {3}], [{3}, {1, 2}]) == 1
    assert planted_f1([{1, 2}], [{1, 2}, {3}]) == pytest.approx(2 / 3)
    assert planted_f1([{1, 2}, {3}, {4}], [{1, 2}]) == pytest.approx(2 / 4)
    # {1, 2, 3} and {1, 2}: precision 2/3, recall 1, so F1 0.8; and of {4, 5} and {5, 6}, 0.5.
    assert planted_f1([{1, 2, 3}, {4, 5}], [{5, 6}, {1, 2}]) == pytest.approx(2 * (0.8 + 0.5) / 4)
    # Both agree best with the same planted one, which counts once.
    assert planted_f1([{1}, {2}], [{1, 2}]) == pytest.approx(2 * (2 / 3) / 3)
    assert planted_f1([], []) is None
    assert planted_f1([{1}], []) == 0
    assert planted_f1([], [{1}]) == 0


def frame(columns: str, *rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


DAYS = [pd.Timestamp("2020-01-01") + pd.Timedelta(days=day) for day in range(4)]
EVENTS = frame(
    "domain user_id split session event window happened_at",
    ("book", "u", "eval", 0, 0, 0, DAYS[0]),
    ("book", "u", "eval", 0, 1, 0, DAYS[1]),
    ("book", "u", "eval", 1, 0, 1, DAYS[2]),
    ("book", "w", "eval", 0, 0, 0, DAYS[0]),
)
PLANTED = frame(
    "domain user_id theme since until",
    ("book", "u", "war", DAYS[0], DAYS[2]),
    ("book", "u", "love", DAYS[1], pd.NaT),
)
THEMES = frame(
    "user_id happened_at theme",
    ("u", DAYS[0], "war"),
    ("u", DAYS[1], "love"),
    ("u", DAYS[2], None),
    ("w", DAYS[0], None),
    ("x", DAYS[0], "war"),
)
MEMORY_EVENTS = frame(
    "domain user_id memory session event",
    ("book", "u", 0, 0, 0),
    ("book", "u", 1, 0, 1),
    ("book", "w", 0, 0, 0),
)
SETS = frame(
    "domain inducer user_id window persona state memories",
    ("book", "clusters", "u", 0, 0, "new", 1),
    ("book", "clusters", "u", 0, 1, "new", 1),
    ("book", "clusters", "u", 1, 0, "ended", 1),
    ("book", "clusters", "u", 1, 1, "same", 1),
    ("book", "clusters", "w", 0, 0, "new", 1),
)
MEMBERS = frame(
    "domain inducer user_id window persona memory",
    ("book", "clusters", "u", 0, 0, 0),
    ("book", "clusters", "u", 0, 1, 1),
    ("book", "clusters", "u", 1, 0, 0),
    ("book", "clusters", "u", 1, 1, 1),
    ("book", "clusters", "w", 0, 0, 0),
)


def scored() -> pd.DataFrame:
    planted = events_with_themes(THEMES, EVENTS)
    return planted_scores(SETS, MEMBERS, MEMORY_EVENTS, EVENTS, PLANTED, planted, "clusters")


def test_a_set_is_scored_against_what_holds_by_the_end_of_its_window() -> None:
    told = scored()[["user_id", "window", "personas", "planted", "planted_f1"]]
    assert told.values.tolist() == [
        ["u", 0, 2, 2, 1.0],
        ["u", 1, 1, 1, 1.0],  # `war` has ended, and so has persona 0
        ["w", 0, 1, 0, 0.0],
    ]


def test_nothing_is_scored_where_nothing_was_planted() -> None:
    nothing = planted_scores(SETS, MEMBERS, MEMORY_EVENTS, EVENTS, PLANTED[:0], THEMES[:0], "clusters")
    assert nothing.empty
    assert "planted_f1" in nothing


def test_the_table_counts_people_without_personas_apart() -> None:
    table = induction_table(SETS, scored(), PLANTED, EVENTS, INDUCERS, seed=1)
    assert set(table["inducer"]) == set(INDUCERS), "also those that found nothing"
    first, second = table[table["inducer"] == "clusters"].to_dict("records")
    assert (first["window"], first["users"], first["personas"], first["single"]) == (0, 2, 1.5, 1.0)
    assert (first["scored"], first["planted_f1"]) == (1, 1.0)
    assert (first["aimless"], first["aimless_personas"]) == (1, 1.0)
    assert (second["window"], second["users"], second["personas"], second["aimless"]) == (1, 1, 1.0, 0)


def test_whoever_was_not_generated_is_not_aimless() -> None:
    real = EVENTS.assign(domain="stories")
    table = induction_table(SETS, scored(), PLANTED, pd.concat([EVENTS, real]), INDUCERS, seed=1)
    first = table[(table["inducer"] == "clusters") & (table["window"] == 0)].iloc[0]
    assert (first["users"], first["aimless"]) == (4, 1)


def test_without_planted_people_the_table_counts_personas_alone() -> None:
    nothing = planted_scores(SETS, MEMBERS, MEMORY_EVENTS, EVENTS, PLANTED[:0], THEMES[:0], "clusters")
    table = induction_table(SETS, nothing, PLANTED[:0], EVENTS, INDUCERS, seed=1)
    assert list(table.loc[table["inducer"] == "clusters", "personas"]) == [1.5, 1.0]
    assert set(table["aimless"]) == {0}
    assert table["planted_f1"].isna().all()
