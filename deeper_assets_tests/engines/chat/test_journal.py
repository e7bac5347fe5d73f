"""The journal: what is paid for is kept, what is on its way counts, what was killed may have been charged."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.engines.chat import journal_file
from deeper_assets.engines.chat.entries import Entry, Purpose, asking_for, request_key
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.journal_file import checksum
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.read_only import beside_read_only

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello — “you”"}]}
KEY = (request_key("http://here/v1", BODY), 0)
ENTRY = Entry("Hello.", None, 10, 4, 2, 0.25)


def key(number: int) -> tuple[str, int]:
    return f"{number:064d}", 0


def claim_and_hang(path: Path, started: object) -> None:
    assert Journal(path).claim(KEY, "m", 0.5) == "granted"
    started.set()  # type: ignore[attr-defined]
    signal.pause()


def test_a_key_depends_on_all_of_a_request_and_on_where_it_goes() -> None:
    assert request_key("http://here/v1", dict(reversed(BODY.items()))) == KEY[0]
    assert request_key("http://there/v1", BODY) != KEY[0]
    assert request_key("http://here/v1", {**BODY, "temperature": 0}) != KEY[0]


def test_an_answer_is_kept_under_its_attempt_and_booked_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    with asking_for(Purpose("initial_personas", "book", "run 1")):
        assert journal.claim(KEY, "m", 0.5) == "granted"
        assert journal.committed_usd() == (0, 0.5)
        for _ in range(2):
            journal.record(KEY, "m", BODY, ENTRY)
    assert journal.committed_usd() == (0.25, 0)
    assert journal.claim(KEY, "m", 0.5) == ENTRY
    assert journal.answers([KEY, (KEY[0], 1), key(1)]) == {KEY: ENTRY}
    journal.book_hits([ENTRY, ENTRY], "m")
    first, second = journal.usage()
    assert (first.asset, first.requests, first.hits, first.saved_usd) == ("", 0, 2, 0.5)
    assert (second.asset, second.domain, second.run_id) == ("initial_personas", "book", "run 1")
    assert (second.requests, second.input_tokens, second.cached_tokens, second.output_tokens) == (1, 10, 4, 2)
    assert (second.cost_usd, second.unreadable) == (0.25, 0)


def test_more_keys_than_a_statement_holds(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for number in range(0, 1200, 3):
        journal.record(key(number), "m", BODY, ENTRY)
    assert set(journal.answers([key(n) for n in range(1200)])) == {key(n) for n in range(0, 1200, 3)}


def test_what_may_have_been_charged_counts_as_spent(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for unsure in (True, False):
        assert journal.claim(KEY, "m", 0.5) == "granted"
        journal.release(KEY, unsure=unsure)
    assert journal.committed_usd() == (0.5, 0)
    [row] = journal.usage()
    assert (row.requests, row.retries, row.unsure_usd, row.cost_usd) == (0, 2, 0.5, 0)


def test_the_cap_counts_in_what_is_on_its_way(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", cap_usd=1.0)
    assert [journal.claim(key(n), "m", 0.4) for n in range(2)] == ["granted"] * 2
    # 0.8 may be spent by what is on its way, so a third has to wait; once that was cheap, it may go.
    assert journal.claim(key(2), "m", 0.4) == "no room yet"
    journal.record(key(0), "m", BODY, Entry("a", None, 1, 0, 1, 0.1))
    assert journal.claim(key(2), "m", 0.4) == "granted"
    for number in (1, 2):
        journal.record(key(number), "m", BODY, Entry("a", None, 1, 0, 1, 0.4))
    assert journal.claim(key(3), "m", 0.4) == "over the cap"
    assert journal.claim(key(3), "m", 0.05) == "granted"
    assert sum(journal.committed_usd()) <= 1.0


@pytest.mark.slow
def test_what_a_killed_process_was_waiting_for_is_asked_anew_and_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", cap_usd=1.0)
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=claim_and_hang, args=(journal.path, started))
    process.start()
    assert started.wait(60)
    assert journal.claim(KEY, "m", 0.5) == "taken"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert journal.claim(KEY, "m", 0.6) == "over the cap", "the 0.5 may have been charged"
    assert journal.claim(KEY, "m", 0.5) == "granted"
    assert journal.committed_usd() == (0.5, 0.5)


def test_a_batch_is_claimed_named_and_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", cap_usd=1.0)
    bodies = {key(n): {**BODY, "n": n} for n in range(5)}
    with asking_for(Purpose("initial_predictions", "book", "run 1")):
        granted = journal.open_batch("b1", "http://here/v1", "m", bodies, 0.3)
    assert granted == [key(0), key(1), key(2)], "the cap leaves room for three"
    assert journal.open_batch("b2", "http://here/v1", "m", bodies, 0.05) == [key(3), key(4)]
    journal.name_batch("b1", "batch_123")
    assert [(b.name, b.provider_id, b.abandoned) for b in journal.batches("http://here/v1")] == [
        ("b1", "batch_123", False),
        ("b2", None, False),
    ]
    assert journal.batches("http://there/v1") == []
    assert journal.holding([key(2), key(7)]) == {"b1"}
    assert journal.holding(list(bodies)) == {"b1", "b2"}
    assert journal.claim(key(1), "m", 0.01) == "taken"
    journal.record_batch("b1", {key(0): ENTRY, key(2): ENTRY})
    assert set(journal.answers(list(bodies))) == {key(0), key(2)}
    asked = {(line["key"], line["attempt"]): line["request"] for line in journal.export()}
    assert asked == {key(n): bodies[key(n)] for n in (0, 2)}
    assert [batch.name for batch in journal.batches("http://here/v1")] == ["b2"]
    assert journal.claim(key(1), "m", 0.01) == "granted", "what a batch left open may be asked anew"
    row = next(row for row in journal.usage() if row.asset == "initial_predictions")
    assert (row.domain, row.run_id, row.requests, row.retries) == ("book", "run 1", 2, 1)


def test_pruned_answers_are_gone_but_stay_booked(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record(KEY, "m", BODY, ENTRY)
    journal.record(key(1), "other", BODY, ENTRY)
    before = datetime.now(UTC) - timedelta(days=1)
    assert journal.prune(before, None) == 0
    assert journal.prune(None, "other") == 1
    assert set(journal.answers([KEY, key(1)])) == {KEY}
    assert journal.prune(datetime.now(UTC) + timedelta(seconds=1), None) == 1
    assert journal.committed_usd() == (0.5, 0)
    assert journal.size()[0] == 0


def test_an_export_holds_requests_and_answers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record(KEY, "m", BODY, ENTRY)
    [line] = journal.export()
    assert line["request"] == BODY
    assert (line["text"], line["cost_usd"], line["attempt"], line["key"]) == ("Hello.", 0.25, 0, KEY[0])


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record(KEY, "m", BODY, ENTRY)
    journal._db.execute("PRAGMA max_page_count = 1")  # as many as there are by now
    with pytest.raises(DeeperError, match=r"journal\.sqlite cannot be written: database or disk is full"):
        journal.record(key(1), "m", BODY, Entry("Hello. " * 100_000, None, 10, 4, 2, 0.25))
    assert journal.size()[0] == 1
    assert journal.committed_usd() == (0.25, 0)


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN IMMEDIATE")
    ending = threading.Timer(0.3, other.execute, ["COMMIT"])
    ending.start()
    assert Journal(path).usage() == []
    ending.join()
    other.close()


def test_a_file_that_is_no_journal_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("no database" * 100)
    with pytest.raises(
        DeeperError, match=r"journal\.sqlite is damaged \(file is not a database\).*\.recover"
    ):
        Journal(path).answers([KEY])


def flip(path: Path, old: bytes, new: bytes) -> None:
    """Changes bytes of the file as a failing disk does, without SQLite's knowledge."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("new", [b"Hellp.", b"Hel\xfflo"], ids=["still UTF-8", "no UTF-8"])
def test_an_answer_that_is_not_what_was_written_is_no_answer(new: bytes, tmp_path: Path) -> None:
    """Flipped bits of a text, also where UTF-8 does not break; in a process of its own, for its caches."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.record(KEY, "m", BODY, ENTRY)
    journal.record(key(1), "m", BODY, replace(ENTRY, text="Good-bye"))
    journal_file.connection(path).close()
    flip(path, b"Hello.", new)
    journal_file._connection.cache_clear()
    assert journal.damaged() == 1
    with pytest.raises(DeeperError, match=rf"the answer of m to request {KEY[0][:12]} \(attempt 0\) is not"):
        journal.answers([KEY, key(1)])
    with pytest.raises(DeeperError, match="deeper journal prune --damaged"):
        journal.claim(KEY, "m", 0.5)
    with pytest.raises(DeeperError, match="is not what was written"):
        list(journal.export())
    assert journal.answers([key(1)])[key(1)].text == "Good-bye"
    assert journal.prune(None, None, damaged=True) == 1
    assert (journal.damaged(), journal.claim(KEY, "m", 0.5)) == (0, "granted")
    assert journal.usage()[0].cost_usd == 0.5, "what was paid stays booked"


@pytest.mark.parametrize("bit", [0, 7])
def test_whatever_bit_of_an_answer_flips_it_can_be_pruned(bit: int, tmp_path: Path) -> None:
    """Of its key, its numbers and its texts; what SQLite itself sees is said by SQLite."""
    path = tmp_path / "journal.sqlite"
    Journal(path).record(KEY, "m" * 50, BODY, ENTRY)
    journal_file.connection(path).close()
    whole = path.read_bytes()
    first, found = whole.rindex(KEY[0].encode()), 0
    for place in range(first, whole.rindex(b"Hello.") + 6):
        journal_file._connection.cache_clear()
        for file in tmp_path.glob("journal.sqlite*"):
            file.unlink()
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        journal = Journal(path)
        assert journal.damaged() == 1
        with pytest.raises(DeeperError, match="is damaged"):
            list(journal.export())
        assert journal.prune(None, None, damaged=True) == 1
        assert (journal.size()[0], list(journal.export())) == (0, [])
        found += 1
    assert found > 100


def test_every_value_of_an_answer_is_in_its_checksum() -> None:
    values: list[Any] = ["k", 0, "m", b"request", "2026", "text", None, 10, 4, 2, 0.25]
    others = ["l", 1, "n", b"requesu", "2027", "texu", "cut_off", 11, 5, 3, 0.5]
    sums = {checksum(*values)} | {
        checksum(*values[:place], other, *values[place + 1 :]) for place, other in enumerate(others)
    }
    assert len(sums) == 12
    assert checksum("ab", "c") != checksum("a", "bc")
    assert checksum(None) != checksum("")
    assert checksum(*values[:-1], 1) == checksum(*values[:-1], 1.0), "SQLite gives a float back"


def test_a_journal_without_checksums_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).record(KEY, "m", BODY, ENTRY)
    db = journal_file.connection(path)
    db.execute("ALTER TABLE answers DROP COLUMN checksum")
    db.close()
    journal_file._connection.cache_clear()
    assert Journal(path).answers([KEY]) == {KEY: ENTRY}
    assert Journal(path).damaged() == 0
    other = sqlite3.connect(path)  # a program from before there were any, at work beside us
    other.execute(
        "INSERT INTO answers (key, attempt, model, request, text, input_tokens, cached_tokens, output_tokens,"
        f" answered_at) SELECT '{key(5)[0]}', 0, model, request, 'Hi.', 1, 0, 1, answered_at FROM answers"
    )
    other.commit()
    assert Journal(path).answers([key(5)])[key(5)].text == "Hi."
    assert Journal(path).damaged() == 0


def test_a_journal_whose_pages_are_damaged_is_an_error_that_says_what_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number in range(300):
        journal.record(key(number), "m", BODY, ENTRY)
    journal_file.connection(path).close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    journal_file._connection.cache_clear()
    with pytest.raises(DeeperError, match=r"journal .*journal\.sqlite is damaged .*paid for again"):
        journal.answers([key(number) for number in range(300)])
    with pytest.raises(DeeperError, match="is damaged"):
        journal.usage()


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_a_journal_that_cannot_be_written_is_read(tmp_path: Path, open_elsewhere: bool) -> None:
    path = tmp_path / "home" / "journal.sqlite"
    writing = "from deeper_assets_tests.engines.chat.test_journal import *;"
    writing += f"Journal(Path({str(path)!r})).record(KEY, 'm', BODY, ENTRY)"
    subprocess.run([sys.executable, "-c", writing], check=True)
    if open_elsewhere:  # so that its log stands beside the file
        Journal(path).record(key(1), "m", BODY, ENTRY)
    read = f"{writing.split(';')[0]}; journal = Journal(Path({str(path)!r}));"
    read += "print(journal.size()[0], journal.usage()[0].requests, journal.committed_usd()[0])"
    command = beside_read_only(path.parent, [sys.executable, "-c", read])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2 2 0.5\n" if open_elsewhere else "1 1 0.25\n", "")
