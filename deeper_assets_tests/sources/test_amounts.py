"""Amounts become marks: worked out by hand, and laws that hold of any amounts."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import REASONS
from deeper_assets.sources.amounts import Marks
from deeper_assets.sources.custom import ColumnMap, CustomSource
from deeper_assets.sources.shape import COLUMNS, scratch

FIVE, HALVES = Scale(1, 5, 1), Scale(0.5, 5, 0.5)
TIMED = ColumnMap("u", "i", amount="m", time="t")
COUNTED = ColumnMap("u", "i")


def read(
    folder: Path, text: str, marks: Marks = "domain", columns: ColumnMap = TIMED, scale: Scale = FIVE
) -> tuple[list[dict[str, Any]], int]:
    """The rows of `ratings` in order, and how many rows were added to others."""
    (folder / "a.csv").write_text(text)
    source = CustomSource(Domain("songs", "song", scale, seen=True), columns, folder / "a.csv", marks=marks)
    with scratch() as (connection, spill):
        report = source.load(connection, spill)
        rows = connection.execute('FROM ratings ORDER BY "row"').fetchall()
    read = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    assert len(read) + report.merged_copies == len(text.splitlines()) - 1
    return read, report.merged_copies


def marks_of(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], float]:
    return {(row["user_id"], row["item_id"]): row["rating"] for row in rows if row["defect"] is None}


LOG = """u,i,m,t
a,x,5,30
a,y,1,10
b,x,5,10
a,x,2.5,20
c,z,0,10
c,x,5,10
"""
"""Sums: a has 7.5 of x and 1 of y; b has 5 of x; c has 0 of z and 5 of x."""


@pytest.mark.parametrize(
    ("marks", "meant"),
    [
        # of 5 sums: 0 has the share 1/10, 1 has 3/10, both 5 have 6/10, 7.5 has 9/10; times 5 marks
        ("domain", {"cz": 1, "ay": 2, "bx": 4, "cx": 4, "ax": 5}),
        # a: 1/4 and 3/4; b: 1/2; c: 1/4 and 3/4
        ("user", {"ay": 2, "ax": 4, "bx": 3, "cz": 2, "cx": 4}),
        # x: both 5 have 2/6, 7.5 has 5/6; y and z stand alone
        ("item", {"bx": 2, "cx": 2, "ax": 5, "ay": 3, "cz": 3}),
    ],
)
def test_marks_are_mid_ranks_of_the_group(tmp_path: Path, marks: Marks, meant: dict[str, int]) -> None:
    rows, added = read(tmp_path, LOG, marks)
    assert marks_of(rows) == {(key[0], key[1]): mark for key, mark in meant.items()}
    assert added == 1


def test_a_sum_is_dated_as_its_first_row_and_says_what_was_written(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, LOG)
    ax, *others = rows
    assert (ax["row"], ax["line"], ax["rated_at"].second, ax["rating_text"]) == (1, 2, 20, "7.5 in 2 rows")
    assert [row["rating_text"] for row in others] == ["1", "5", "0", "5"]
    assert all(row["has_place"] for row in rows)


def test_rows_alike_count_each_and_without_amounts_each_counts_one(tmp_path: Path) -> None:
    text = "u,i\na,x\na,x\na,x\na,y\nb,x\n"
    rows, added = read(tmp_path, text, "user", COUNTED)
    assert added == 2
    assert [(row["item_id"], row["rating_text"], row["rating"]) for row in rows] == [
        ("x", "3", 4),
        ("y", "1", 2),
        ("x", "1", 3),
    ]


@pytest.mark.parametrize("marks", ["domain", "user", "item"])
def test_what_differs_in_nothing_has_the_middle_mark(tmp_path: Path, marks: Marks) -> None:
    alike = "u,i,m,t\n" + "".join(f"u{u},i{i},7,1\n" for u in range(3) for i in range(4))
    assert set(marks_of(read(tmp_path, alike, marks)[0]).values()) == {3}
    assert marks_of(read(tmp_path, "u,i,m,t\na,x,9,1\n", marks)[0]) == {("a", "x"): 3}
    halves = marks_of(read(tmp_path, alike, marks, scale=HALVES)[0])
    assert set(halves.values()) == {3}  # of ten marks the sixth: the upper one in the middle


def test_amounts_that_are_none_are_rejected_and_take_no_place(tmp_path: Path) -> None:
    text = "u,i,m,t\na,x,-1,1\na,y,,1\na,z,much,1\n,x,1,1\na,,1,1\na,x,inf,1\na,x,2,never\na,x,4,2\n"
    rows, added = read(tmp_path, text)
    assert added == 0
    assert [(row["defect"], row["detail"], row["rating"]) for row in rows] == [
        ("negative_amount", "-1: an amount is 0 or more", None),
        ("not_a_number", "found nothing, expected an amount", None),
        ("not_a_number", "found 'much', expected an amount", None),
        ("missing_user", "no user id", None),
        ("empty_title", "the title is empty", None),
        ("not_a_number", "found 'inf', expected an amount", None),
        ("unreadable_time", "found 'never', expected a time", None),
        (None, None, 3),
    ]
    assert {row["defect"] for row in rows} - {None} <= set(REASONS)
    assert [row["has_place"] for row in rows] == [False] * 7 + [True]


amounts = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 6)), min_size=1, max_size=25
)


@settings(max_examples=25)
@given(log=amounts, marks=st.sampled_from(["domain", "user", "item"]), scale=st.sampled_from([FIVE, HALVES]))
def test_marks_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, log: list[tuple[str, str, int]], marks: Marks, scale: Scale
) -> None:
    text = "u,i,m,t\n" + "".join(f"{u},{i},{m / 10},1\n" for u, i, m in log)
    rows, _ = read(tmp_path_factory.getbasetemp(), text, marks, scale=scale)
    sums: dict[tuple[str, str], int] = {}
    for user, item, amount in log:
        sums[user, item] = sums.get((user, item), 0) + amount
    of = {"domain": slice(0, 0), "user": slice(0, 1), "item": slice(1, 2)}[marks]
    number = round((scale.highest - scale.lowest) / scale.step) + 1
    meant = {}
    for key, total in sums.items():
        others = [other for at, other in sums.items() if at[of] == key[of]]
        below = sum(other < total for other in others) + Fraction(others.count(total), 2)
        meant[key] = scale.lowest + int(below / len(others) * number) * scale.step
    assert marks_of(rows) == meant


@pytest.mark.parametrize(
    ("columns", "marks", "message"),
    [
        (ColumnMap("u", "i"), None, "name columns.rating; or where nobody rated, say by marks"),
        (ColumnMap("u", "i", "r"), "user", "with columns.rating there is nothing to say"),
        (ColumnMap("u", "i", "r", amount="m"), "user", "name one of columns.rating and columns.amount"),
    ],
)
def test_a_row_has_a_rating_or_an_amount(columns: ColumnMap, marks: Marks | None, message: str) -> None:
    domain = Domain("songs", "song", FIVE, seen=True)
    with pytest.raises(DeeperError, match=message):
        CustomSource(domain, columns, Path("a.csv"), marks=marks)


def test_the_scale_decides_what_is_read_where_it_makes_the_marks(tmp_path: Path) -> None:
    def settings_of(columns: ColumnMap, scale: Scale, marks: Marks | None) -> dict[str, Any]:
        return CustomSource(
            Domain("songs", "song", scale, seen=True), columns, tmp_path / "a.csv", marks=marks
        ).settings()

    assert settings_of(COUNTED, FIVE, "user") != settings_of(COUNTED, HALVES, "user")
    assert settings_of(COUNTED, FIVE, "user") != settings_of(COUNTED, FIVE, "item")
    rated = ColumnMap("u", "i", "r")
    assert settings_of(rated, FIVE, None) == settings_of(rated, HALVES, None)
