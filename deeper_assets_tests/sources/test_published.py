import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deeper_assets.method.domains import PAPER_DOMAINS, Domain, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import REASONS
from deeper_assets.sources.published import PublishedSource
from deeper_assets_tests.sources.reading import picked, real_data, written

BOOK = find_domain("book")
TEST, TRAIN = "split_data/test_dataset.csv", "split_data/train_dataset.csv"


def iteration(k: int) -> str:
    return f"test_iterations/test_iteration_{k}.jsonl"


def titles(window: int) -> list[str]:
    return [f"W{window} item {place}" for place in range(10)]


def window(number: int, *, first: str | None = None, rating: object = 4) -> dict[str, list[Any]]:
    """Window `number`: ten fours, the first item renamed or rated otherwise."""
    items = titles(number)
    return {"items": [first or items[0], *items[1:]], "ratings": [rating, *[4] * 9]}


class Files:
    """Writes published files, small ones, under `folder`."""

    def __init__(self, folder: Path, domain: Domain = BOOK) -> None:
        self.domain = domain
        self.root = folder
        self.dataset = folder / str(domain.dataset)
        (self.dataset / "split_data").mkdir(parents=True)
        (self.dataset / "test_iterations").mkdir()
        self.table(TEST)

    def table(self, name: str, *users: tuple[str, list[object]]) -> None:
        with (self.dataset / name).open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["id", "item_type", "split", *[f"windows_{n}" for n in range(5)]])
            for user, windows in users:
                cells = [cell if isinstance(cell, str) else repr(cell) for cell in windows]
                lines.writerow([user, "book", "eval", *cells, *[""] * (5 - len(cells))])

    def lines(self, name: str, *lines: object) -> None:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (self.dataset / name).write_text(text)

    def read(self) -> list[dict[str, Any]]:
        rows, self.report = written(PublishedSource(self.domain, self.root), self.root)
        assert {row["defect"] for row in rows if row["defect"]} <= set(REASONS)
        return rows


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def line(user: str, *numbers: int, **changed: dict[str, list[Any]]) -> dict[str, Any]:
    """A JSON line of `user` with windows `numbers`; `I3={...}` replaces window 3."""
    record: dict[str, Any] = {"id": user}
    for number in numbers:
        pair = changed.get(f"W{number}", window(number))
        record |= {f"I{number}": pair["items"], f"U{number}": pair["ratings"]}
    return record


def defects(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return picked([row for row in rows if row["defect"]], "defect", "position", "file", "line", "detail")


def test_copies_become_one_history(files: Files) -> None:
    files.table(TEST, ("u", [window(0), window(1)]))
    files.lines(iteration(1), line("u", 0, 1, 2))
    rows = files.read()
    assert [row["position"] for row in rows] == list(range(30))
    assert [row["title"] for row in rows] == titles(0) + titles(1) + titles(2)
    assert {row["user_id"] for row in rows} == {"u"}
    assert rows[0] | {"rated_at": None} == rows[0]
    assert picked(rows[19:21], "file", "line", "rating_text", "rating", "item_id", "split") == [
        (TEST, 2, "4", 4.0, "W1 item 9", None),
        (iteration(1), 1, "4", 4.0, "W2 item 0", None),
    ]
    assert (len(rows), files.report.merged_copies, defects(rows)) == (30, 20, [])


def test_what_the_json_files_change_in_titles_is_no_contradiction(files: Files) -> None:
    title = 'Nuts &amp;amp; "Bolts"  @ Home\n(2nd)'
    files.table(TEST, ("u", [window(0, first=title)]))
    copy = window(0, first="nuts & 'Bolts' ' home (2nd)", rating=4.0)
    files.lines(iteration(1), line("u", 0, W0=copy))
    rows = files.read()
    assert rows[0]["title"] == 'Nuts & "Bolts" @ Home (2nd)'
    assert (defects(rows), files.report.merged_copies) == ([], 10)


def test_a_contradiction_takes_one_rating(files: Files) -> None:
    files.table(TEST, ("u", [window(0)]), ("v", [window(0)]))
    files.lines(iteration(1), line("u", 0, W0=window(0, rating=1)), line("v", 0, W0=window(0, first="Other")))
    rows = files.read()
    assert len(rows) == 20
    assert defects(rows) == [
        (
            "contradicting_copies",
            0,
            TEST,
            2,
            f"{TEST}:2 ('W0 item 0', 4), {iteration(1)}:1 ('W0 item 0', 1)",
        ),
        ("contradicting_copies", 0, TEST, 3, f"{TEST}:3 ('W0 item 0', 4), {iteration(1)}:2 ('Other', 4)"),
    ]
    assert files.report.merged_copies == 18


def test_the_same_user_twice_in_a_file(files: Files) -> None:
    files.table(TEST, ("u", [window(0)]), ("u", [window(0, rating=2)]))
    rows = files.read()
    assert [row["position"] for row in rows] == [*range(10), *[None] * 10]
    assert picked(rows[:2], "defect", "rating") == [("contradicting_copies", 4.0), (None, 4.0)]
    assert picked(rows[10:12], "defect", "rating", "line", "detail") == [
        ("contradicting_copies", 2.0, 3, f"{TEST}:2 ('W0 item 0', 4), {TEST}:3 ('W0 item 0', 2)"),
        ("duplicate_row", 4.0, 3, "already in line 2"),
    ]
    assert Counter(row["defect"] for row in rows if row["defect"]) == {
        "contradicting_copies": 2,
        "duplicate_row": 9,
    }


def test_a_copy_of_unequal_lengths_gives_way_to_a_whole_one(files: Files) -> None:
    bad = {"items": titles(0)[:9], "ratings": [4] * 10}
    files.table(TEST, ("u", [bad]))
    files.lines(iteration(1), line("u", 0))
    rows = files.read()
    assert [row["position"] for row in rows] == [*range(10), None]
    assert {row["file"] for row in rows[:10]} == {iteration(1)}
    detail = f"W0: 9 titles, 10 ratings; {iteration(1)}:1 is used"
    assert defects(rows) == [("unequal_lengths", None, TEST, 2, detail)]


def test_without_a_whole_copy_uncertain_places_are_rejected(files: Files) -> None:
    glued = {"items": [*titles(0)[:3], "C', ''D", *titles(0)[5:]], "ratings": [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]}
    lost = {"items": titles(0)[:9], "ratings": [4] * 10}
    files.table(TEST, ("u", [glued]), ("v", [lost]))
    rows = files.read()
    places = picked(rows[:10], "position", "title", "rating", "defect")
    assert places[2] == (2, "W0 item 2", 3.0, None)
    assert places[3:5] == [(3, None, None, "unequal_lengths"), (4, None, None, "unequal_lengths")]
    assert places[5] == (5, "W0 item 5", 1.0, None)
    assert {row["defect"] for row in rows[10:]} == {"unequal_lengths"}
    assert [row["position"] for row in rows[10:]] == list(range(10))
    assert rows[10]["detail"] == "W0: 9 titles, 10 ratings"


@pytest.mark.parametrize(
    "cell",
    [
        "__import__('os').getcwd()",
        "{'items': ['a'], 'ratings': (4,)}",
        "{'items': ['a']}",
        "[1, 2]",
        "{'items': [",
        "[" * 5000,
        "-" * 50_000 + "1",
        "1" + "+1" * 40_000,
        "1" * 5000,
        "'\x00'",
        "x" * 1_000_001,
    ],
)
def test_a_window_that_is_none(files: Files, cell: str) -> None:
    files.table(TEST, ("u", [cell, window(1)]))
    rows = files.read()
    assert [row["position"] for row in rows] == [*range(10, 20), None]
    assert picked(rows[10:], "user_id", "defect", "file", "line") == [("u", "unreadable_window", TEST, 2)]
    assert rows[10]["detail"].startswith("W0: ")
    assert len(rows[10]["detail"]) < 250


def test_lines_that_are_none(files: Files) -> None:
    (files.dataset / TEST).write_text("id,windows_0\nu\n,\"{}\"\nv,\"{'items': ['a'], 'ratings': [5]}\",1\n")
    lines: tuple[object, ...] = (
        "{'id': 1}",
        "[" * 5000,
        "[1]",
        {"I0": [], "U0": []},
        "",
        {"id": "w", "I0": ["a"]},
    )
    files.lines(iteration(1), *lines)
    rows = files.read()
    assert picked(rows, "defect", "file", "line", "user_id") == [
        ("malformed_line", TEST, 2, None),
        ("missing_user", TEST, 3, None),
        ("malformed_line", TEST, 4, None),
        ("malformed_line", iteration(1), 1, None),
        ("malformed_line", iteration(1), 2, None),
        ("malformed_line", iteration(1), 3, None),
        ("missing_user", iteration(1), 4, None),
        ("unreadable_window", iteration(1), 6, "w"),
    ]
    assert rows[3]["detail"] == "no JSON object: {'id': 1}"
    assert rows[0]["detail"] == "Expected Number of Columns: 2 Found: 1 In: u"


def test_ratings_and_titles_are_kept_as_they_stand(files: Files) -> None:
    odd = {"items": ["", 1984, None, " a  b ", "e"], "ratings": ["4", None, float("inf"), True, 10**400]}
    files.table(TEST, ("u", [repr(odd).replace("inf", "1e999")]))
    rows = files.read()
    assert picked(rows[:5], "title", "rating") == [
        ("", 4.0),
        ("1984", None),
        (None, None),
        ("a b", None),
        ("e", None),
    ]
    assert [row["rating_text"] for row in rows[:4]] == ["4", None, "inf", "True"]
    assert defects(rows[:5]) == []  # that they cannot be used is for the rules to say


def test_a_window_with_more_than_ten_places(files: Files) -> None:
    long = {"items": [*titles(0), "eleventh"], "ratings": [4] * 11}
    files.table(TEST, ("u", [long, window(1)]))
    rows = files.read()
    assert [row["position"] for row in rows] == [*range(10), None, *range(10, 20)]
    assert defects(rows) == [("window_too_long", None, TEST, 2, "place 10 of W0, which has places 0 to 9")]


def test_a_window_with_fewer_than_ten_is_used_as_it_is_and_said_to_be(files: Files) -> None:
    short = {"items": ["A", "B"], "ratings": [4, 5]}
    files.table(TEST, ("u", [window(0), short, window(2)]))
    rows = files.read()
    places = {row["position"]: row for row in rows}
    assert sorted(places) == list(range(30))  # W2 stays W2
    assert [places[place]["title"] for place in (10, 11, 12)] == ["A", "B", None]
    assert {row["defect"] for place, row in places.items() if 12 <= place < 20} == {"short_window"}
    assert places[12]["detail"] == "W1 has 2 titles, 2 ratings, 10 expected"
    assert all(places[place]["defect"] is None for place in (*range(12), *range(20, 30)))


def test_train_and_evaluation_users(files: Files) -> None:
    files.table(TEST, ("u", [window(0)]))
    files.table(TRAIN, ("u", [window(0)]), ("v", [window(0)]), ("w", [window(0)]))
    files.lines(iteration(1), line("w", 0))
    rows = files.read()
    counts: dict[Any, int] = {}
    for key in picked(rows, "user_id", "split", "defect", "file"):
        counts[key] = counts.get(key, 0) + 1
    assert counts == {
        ("u", "eval", None, TEST): 10,
        ("u", "train", "also_in_evaluation", TRAIN): 10,
        ("v", "train", None, TRAIN): 10,
        ("w", "eval", None, iteration(1)): 10,
        ("w", "train", "also_in_evaluation", TRAIN): 10,
    }
    assert {row["position"] for row in rows if row["defect"]} == {None}


def test_identity_follows_the_contents_and_not_the_place(tmp_path: Path) -> None:
    one, other = Files(tmp_path / "one"), Files(tmp_path / "other" / "deeper")
    ours = PublishedSource(BOOK, one.root).identity()
    assert ours == PublishedSource(BOOK, tmp_path / "other").identity()
    assert (ours["kind"], ours["dataset"], list(ours["files"])) == ("published", "amazon_book", [TEST])
    json.dumps(ours)
    other.lines(iteration(2), line("u", 0))
    theirs = PublishedSource(BOOK, tmp_path / "other")
    assert theirs.identity() != ours
    assert [path.name for path in theirs.files()] == ["test_dataset.csv", "test_iteration_2.jsonl"]


def test_iterations_are_read_in_order(files: Files) -> None:
    for k in (10, 2, 1):
        files.lines(iteration(k), line("u", 0))
    names = [path.name for path in PublishedSource(BOOK, files.root).files()]
    assert names == ["test_dataset.csv", *[f"test_iteration_{k}.jsonl" for k in (1, 2, 10)]]


def test_what_is_not_there_is_named(tmp_path: Path, files: Files) -> None:
    with pytest.raises(DeeperError, match=r"no folder 'google_local' in .*; expected it to hold split_data/"):
        written(PublishedSource(find_domain("local_business"), tmp_path), tmp_path)
    with pytest.raises(DeeperError, match="domain 'mine' has no published dataset"):
        PublishedSource(Domain("mine", "thing", BOOK.scale, True), tmp_path).identity()
    (files.dataset / TEST).write_text("id,window\n")
    with pytest.raises(
        DeeperError, match="needs the columns id and windows_0, windows_1, …; it has id, window"
    ):
        written(PublishedSource(BOOK, tmp_path), tmp_path)
    (files.dataset / TEST).unlink()
    with pytest.raises(
        DeeperError, match=r"test_dataset\.csv does not exist; expected the published evaluation"
    ):
        written(PublishedSource(BOOK, tmp_path), tmp_path)
    (files.dataset / TEST).mkdir()
    with pytest.raises(DeeperError, match=r"test_dataset\.csv is a folder"):
        written(PublishedSource(BOOK, tmp_path), tmp_path)


def test_files_in_another_encoding_are_named(tmp_path: Path, files: Files) -> None:
    (files.dataset / TEST).write_bytes(b"id,windows_0\nu,caf\xe9\n")
    with pytest.raises(DeeperError, match=r"test_dataset\.csv is not UTF-8 \(line 2\)"):
        files.read()
    files.table(TEST)
    (files.dataset / iteration(1)).write_bytes(b'{"id": "caf\xe9"}')
    with pytest.raises(DeeperError, match=r"test_iteration_1\.jsonl cannot be read as text"):
        files.read()


@pytest.mark.parametrize("domain", PAPER_DOMAINS, ids=lambda domain: domain.name)
def test_the_published_files(tmp_path: Path, domain: Domain) -> None:
    """Their one real defect that a reader finds: a lost quote glued two titles together, for two users."""
    source = PublishedSource(domain, real_data("deeper").parent)
    rows, _ = written(source, tmp_path)
    wrong = Counter(row["defect"] for row in rows if row["defect"])
    assert wrong == ({"unequal_lengths": 4} if domain.name == "local_business" else {})
    placed = [row for row in rows if row["position"] is not None]
    assert len({(row["user_id"], row["position"]) for row in placed}) == len(placed)
    users = duckdb.connect().execute(
        "SELECT count(DISTINCT id) FROM read_csv($files, union_by_name = true, all_varchar = true)",
        {"files": [str(path) for path in source.files() if path.suffix == ".csv"]},
    )
    assert users.fetchone() == (len({row["user_id"] for row in rows}),)
    assert all(len(row["title"] or "-") == len(" ".join((row["title"] or "-").split())) for row in rows)
