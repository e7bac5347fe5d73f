"""One file over HTTP, from a server that breaks off and one that goes on with other bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads.transfer import fetch
from deeper_assets_tests.sources.downloads.file_server import (
    Answer,
    Asked,
    FileServer,
    Notes,
    Responder,
    blocks,
    breaking_off,
    honest,
    passing_over,
    serving,
    status,
)
from deeper_assets_tests.sources.downloads.trying import (
    CONTENT,
    OTHER,
    SHORT,
    contents,
    fetched,
    nothing_wrong,
    refused,
)


def test_a_file_comes_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    notes = Notes()
    with serving(honest(CONTENT)) as server:
        came = fetch(server.address("file.bin"), tmp_path / "file.bin", nothing_wrong, notes, SHORT)
    assert came == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert notes.have[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked[0].headers["accept-encoding"] == "identity"
    assert server.starts == [None]


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with serving(honest(b"")) as server:
        assert fetched(server, tmp_path) == 0
    assert contents(tmp_path) == {"file.bin": b""}


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    with serving(honest(CONTENT)) as server:
        assert fetched(server, tmp_path) == 0
    assert contents(tmp_path) == {"file.bin": b"mine"}
    assert server.asked == []


def test_a_break_costs_only_what_had_not_come(tmp_path: Path) -> None:
    whole = honest(CONTENT)
    with serving(breaking_off(40_000, whole), breaking_off(30_000, whole), whole) as server:
        assert fetched(server, tmp_path) == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [None, 40_000, 70_000]
    assert server.sent == [40_000, 30_000, len(CONTENT) - 70_000]
    assert [asked.headers.get("if-range") for asked in server.asked] == [None, '"one"', '"one"']


def test_a_later_process_goes_on(tmp_path: Path) -> None:
    whole = honest(CONTENT)
    with serving(breaking_off(50_000, whole), status(503), status(503), status(503), whole) as server:
        assert "status 503" in refused(server, tmp_path)
        assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:50_000]
        assert fetched(server, tmp_path) == len(CONTENT) - 50_000
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts[-1] == 50_000


@pytest.mark.parametrize(
    "changed",
    [honest(OTHER, '"two"'), passing_over("if-range", responder=honest(OTHER, '"two"'))],
    ids=["by the standard", "without a look at If-Range"],
)
def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path, changed: Responder) -> None:
    with serving(breaking_off(60_000, honest(CONTENT)), changed) as server:
        fetched(server, tmp_path)
    assert contents(tmp_path) == {"file.bin": OTHER}
    assert server.starts[:2] == [None, 60_000]


def test_last_modified_tells_versions_apart_where_the_etag_is_weak(tmp_path: Path) -> None:
    date = "Mon, 17 Oct 2016 20:00:00 GMT"
    whole = honest(CONTENT, 'W/"one"', last_modified=date)
    with serving(breaking_off(10_000, whole), whole) as server:
        assert fetched(server, tmp_path) == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert (server.starts, server.asked[1].headers["if-range"]) == ([None, 10_000], date)


def test_without_a_validator_a_file_is_begun_anew(tmp_path: Path) -> None:
    whole = honest(CONTENT, 'W/"one"')
    with serving(breaking_off(10_000, whole), whole) as server:
        assert fetched(server, tmp_path) == 10_000 + len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [None, None]


def test_a_server_without_ranges_sends_all_again(tmp_path: Path) -> None:
    whole = passing_over("range", responder=honest(CONTENT))
    with serving(breaking_off(60_000, whole), whole) as server:
        assert fetched(server, tmp_path) == 60_000 + len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}


def test_a_server_that_breaks_every_beginning_off_is_given_up(tmp_path: Path) -> None:
    whole = passing_over("range", responder=honest(CONTENT))
    with serving(breaking_off(60_000, whole)) as server:
        assert "last of several tries" in refused(server, tmp_path)
    assert server.starts == [None, 60_000, 60_000]


def test_the_rest_that_is_not_the_one_asked_for_is_not_added(tmp_path: Path) -> None:
    def shifted(asked: Asked) -> Answer:
        headers = {"Content-Range": f"bytes 0-99/{len(CONTENT)}", "Content-Length": "100", "ETag": '"one"'}
        return Answer([CONTENT[:100]], 206, headers)

    with serving(breaking_off(60_000, honest(CONTENT)), shifted, honest(CONTENT)) as server:
        fetched(server, tmp_path)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [None, 60_000, None]


def test_416_where_all_has_come_is_the_end(tmp_path: Path) -> None:
    """A server that never said the size, and a process that was killed before it gave the file its name."""
    with serving(honest(CONTENT)) as server:
        put_part(tmp_path, CONTENT, server, size=None)
        assert fetched(server, tmp_path) == 0
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [len(CONTENT)]


def test_416_where_more_has_come_than_there_is_begins_anew(tmp_path: Path) -> None:
    with serving(honest(CONTENT)) as server:
        put_part(tmp_path, CONTENT + b"more", server, size=None)
        assert fetched(server, tmp_path) == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [len(CONTENT) + 4, None]


def test_416_to_a_request_for_all_is_an_error(tmp_path: Path) -> None:
    with serving(status(416)) as server:
        assert "status 416" in refused(server, tmp_path)
    assert contents(tmp_path) == {}
    assert server.starts == [None]


def test_all_that_has_come_needs_no_request(tmp_path: Path) -> None:
    with serving(honest(CONTENT)) as server:
        put_part(tmp_path, CONTENT, server, size=len(CONTENT))
        assert fetched(server, tmp_path) == 0
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.asked == []


ELSEWHERE = json.dumps({"address": "http://elsewhere/file.bin", "validator": '"one"', "size": len(CONTENT)})


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"address": 1}', ELSEWHERE])
def test_bytes_of_which_nobody_says_what_they_are_count_for_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / "file.bin.part").write_bytes(OTHER[:50_000])
    (tmp_path / "file.bin.part.json").write_text(note)
    with serving(honest(CONTENT)) as server:
        assert fetched(server, tmp_path) == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [None]


def put_part(folder: Path, content: bytes, server: FileServer, size: int | None) -> None:
    """What a killed process leaves."""
    (folder / "file.bin.part").write_bytes(content)
    note = {"address": server.address("file.bin"), "validator": '"one"', "size": size}
    (folder / "file.bin.part.json").write_text(json.dumps(note))


# ---------------------------------------------------------------------------------------------- processes


@pytest.mark.slow
def test_a_killed_download_goes_on(tmp_path: Path) -> None:
    def held_up(asked: Asked) -> Answer:
        answer = honest(CONTENT)(asked)
        return Answer(and_then_nothing(b"".join(answer.parts)[:70_000]), answer.status, answer.headers)

    def and_then_nothing(content: bytes) -> Iterator[bytes]:
        yield from blocks(content)
        time.sleep(60)

    part = tmp_path / "file.bin.part"
    with serving(held_up, honest(CONTENT)) as server:
        code = (
            "import sys\nfrom pathlib import Path\n"
            "from deeper_assets.sources.downloads.transfer import fetch\n"
            "from deeper_assets_tests.sources.downloads.file_server import Notes\n"
            "fetch(sys.argv[1], Path(sys.argv[2]), lambda path: None, Notes())\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, server.address("file.bin"), tmp_path / "file.bin"]
        )
        wait_until(lambda: part.exists() and part.stat().st_size == 70_000)
        with pytest.raises(DeeperError, match="is being downloaded by another process"):
            fetched(server, tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert part.read_bytes() == CONTENT[:70_000]
        assert fetched(server, tmp_path) == len(CONTENT) - 70_000
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert server.starts == [None, 70_000]


def wait_until(reached: Callable[[], bool]) -> None:
    """Waits for what another process does."""
    for _ in range(600):
        if reached():
            return
        time.sleep(0.1)
    raise AssertionError("it never came to that")


# ---------------------------------------------------------------------------------- whatever the server does

VERSIONS = (honest(CONTENT[:3000], '"one"'), honest(OTHER[:3000], '"two"'))
PAGE = Answer([b"<html>"], 200, {"Content-Type": "text/html; charset=utf-8"})
Step = tuple[str, int, int]
steps = st.tuples(
    st.sampled_from(["break", "break", "503", "404", "page", "no ranges", "no If-Range", "drop"]),
    st.integers(0, 1),
    st.integers(0, 3000),
)


def responder(step: Step) -> Responder:
    """What a step says: one of two versions of a file, broken off after so many bytes, or no file at all."""
    what, version, after = step
    file = breaking_off(after, VERSIONS[version])
    return {
        "break": file,
        "503": status(503),
        "404": status(404),
        "page": lambda _: PAGE,
        "no ranges": passing_over("range", responder=file),
        "no If-Range": passing_over("if-range", responder=file),
        "drop": lambda _: Answer((), 200, {"Content-Length": "3000", "ETag": '"two"'}),
    }[what]


@settings(max_examples=15)
@given(st.lists(steps, max_size=6), st.integers(0, 1))
def test_a_file_is_of_one_version_whatever_the_server_does(script: list[Step], last: int) -> None:
    with TemporaryDirectory() as name, serving(*map(responder, script), VERSIONS[last]) as server:
        folder = Path(name)
        for _ in range(len(script) + 1):
            with suppress(DeeperError):
                fetched(server, folder)
                break
        assert contents(folder) in ({"file.bin": CONTENT[:3000]}, {"file.bin": OTHER[:3000]})
        assert sum(server.sent) <= 3000 * len(server.asked)
