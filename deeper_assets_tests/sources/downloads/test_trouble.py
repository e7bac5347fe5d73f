"""One file over HTTP, from a server that lies, refuses, trickles and sends people elsewhere."""

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain
from pathlib import Path

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads import parts
from deeper_assets.sources.downloads.transfer import DamagedError, Patience, fetch, fetch_text
from deeper_assets_tests.sources.downloads.file_server import (
    Answer,
    Asked,
    Notes,
    blocks,
    breaking_off,
    honest,
    serving,
    status,
)
from deeper_assets_tests.sources.downloads.trying import (
    CONTENT,
    IMPATIENT,
    SHORT,
    contents,
    fetched,
    nothing_wrong,
    refused,
)

# --------------------------------------------------------------------------------------- lies about length


def test_a_length_that_is_too_long_is_given_up(tmp_path: Path) -> None:
    def lie(asked: Asked) -> Answer:
        length = len(CONTENT) + 500
        if asked.start is not None:
            rest = f"bytes {asked.start}-{length - 1}/{length}"
            return Answer((), 206, {"Content-Range": rest, "ETag": '"1"'})
        return Answer([CONTENT], 200, {"Content-Length": str(length), "ETag": '"1"'})

    with serving(lie) as server:
        assert "it ended after 102,400 of 102,900 bytes" in refused(server, tmp_path)
    assert server.sent == [len(CONTENT), 0, 0, 0]


def test_a_length_that_is_too_short_is_what_the_check_is_for(tmp_path: Path) -> None:
    def check(path: Path) -> None:
        raise DamagedError(f"it has {path.stat().st_size} bytes")

    def lie(_: Asked) -> Answer:
        return Answer([CONTENT], 200, {"Content-Length": "1000", "ETag": '"one"'})

    with serving(lie) as server, pytest.raises(DeeperError, match=r"came, but it has 1000 bytes; the next"):
        fetch(server.address("file.bin"), tmp_path / "file.bin", check, Notes(), SHORT)
    assert contents(tmp_path) == {}


def test_a_rest_that_is_longer_than_it_may_be_is_refused(tmp_path: Path) -> None:
    def longer(asked: Asked) -> Answer:
        headers = {"Content-Range": f"bytes 60000-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"one"'}
        return Answer([CONTENT[60_000:] + b"more"], 206, headers)

    with serving(breaking_off(60_000, honest(CONTENT)), longer) as server:
        assert "sends more than 102,400 bytes" in refused(server, tmp_path)
    assert contents(tmp_path) == {}


def test_an_endless_body_ends(tmp_path: Path) -> None:
    def endless(_: Asked) -> Answer:
        return Answer(iter(lambda: b"0" * 65536, b""))

    with serving(endless) as server:
        assert "sends more than 1,000,000 bytes" in refused(server, tmp_path)
    assert contents(tmp_path) == {}


def test_a_file_that_says_it_is_too_large_is_not_begun(tmp_path: Path) -> None:
    with serving(honest(CONTENT)) as server:
        assert "has 102,400 bytes; at most 5,000 are taken" in refused(server, tmp_path, largest=5000)
    assert contents(tmp_path) == {}


def test_a_full_disk_is_seen_before_anything_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SPARE", 10**18)
    with serving(honest(CONTENT)) as server:
        assert re.search(r"GB free, and 1,000,000,000\.00 GB are needed", refused(server, tmp_path))
    assert contents(tmp_path) == {}


# ------------------------------------------------------------------------------------ failures and patience


@pytest.mark.parametrize("code", [404, 410])
def test_a_file_that_is_gone_is_said_at_once(tmp_path: Path, code: int) -> None:
    with serving(status(code)) as server:
        assert f"file.bin is not there (status {code}); its publisher" in refused(server, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [401, 403, 204, 300])
def test_other_refusals_are_said_at_once(tmp_path: Path, code: int) -> None:
    with serving(status(code)) as server:
        assert f"the server answers with status {code}" in refused(server, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_failures_that_pass_are_waited_for(tmp_path: Path, code: int) -> None:
    with serving(status(code), status(code), honest(CONTENT)) as server:
        assert fetched(server, tmp_path) == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}


def test_as_long_as_the_server_asks_for(tmp_path: Path) -> None:
    notes = Notes()
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    refusals = status(429, Retry_After="1"), status(503, Retry_After=past)
    with serving(*refusals, honest(CONTENT)) as server:
        fetch(server.address("file.bin"), tmp_path / "file.bin", nothing_wrong, notes, SHORT)
    assert [text.partition("file.bin: ")[2] for text in notes.texts] == [
        "the server answers with status 429; again in 1 s",
        "the server answers with status 503; again in 0 s",
    ]


def test_a_server_that_asks_for_an_hour_is_left_alone(tmp_path: Path) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    for asked, seconds in (("3600", "3,600"), (soon, "7,[12]")):
        with serving(status(429, Retry_After=asked)) as server:
            assert re.search(rf"asks to wait {seconds}.* s", refused(server, tmp_path))
        assert len(server.asked) == 1


def test_a_page_is_not_the_file_and_costs_nothing_that_has_come(tmp_path: Path) -> None:
    page = lambda _: Answer([b"<html>Maintenance</html>"], 200, {"Content-Type": "text/html"})  # noqa: E731
    with serving(breaking_off(60_000, honest(CONTENT)), page, honest(CONTENT)) as server:
        assert "a page in the place of the file" in refused(server, tmp_path)
        assert fetched(server, tmp_path) == len(CONTENT) - 60_000
    assert contents(tmp_path) == {"file.bin": CONTENT}


def slowly(parts: Iterable[bytes], pause: float) -> Iterator[bytes]:
    """One part after the other, with a pause before each."""
    for part in parts:
        time.sleep(pause)
        yield part


def test_a_trickle_is_as_good_as_silence(tmp_path: Path) -> None:
    def trickle(asked: Asked) -> Answer:
        answer = honest(CONTENT)(asked)
        content = b"".join(answer.parts)
        parts = chain([content[:200]], slowly(blocks(content[200:], 1), 0.02))
        return Answer(parts, answer.status, answer.headers)

    with serving(trickle) as server:
        message = refused(server, tmp_path, Patience(window=2, least=1000, tries=2, pause=0))
    assert "fewer than 1,000 bytes came in 2 s" in message
    came = (tmp_path / "file.bin.part").read_bytes()
    assert CONTENT.startswith(came)
    first, second = server.starts
    assert first is None
    assert second is not None
    assert 200 <= second <= len(came) - 200 < 2000 - 200


def test_a_slow_download_may_take_as_long_as_it_takes(tmp_path: Path) -> None:
    def steadily(asked: Asked) -> Answer:
        answer = honest(CONTENT[:8000])(asked)
        return Answer(slowly(answer.parts, 0.4), answer.status, answer.headers)

    with serving(steadily) as server:
        assert fetched(server, tmp_path, Patience(window=2, least=1000, tries=1)) == 8000
    assert contents(tmp_path) == {"file.bin": CONTENT[:8000]}


def test_silence_is_not_waited_for(tmp_path: Path) -> None:
    def silent(_: Asked) -> Answer:
        time.sleep(2)
        return Answer()

    with serving(silent) as server:
        assert "no answer within 0.5 s" in refused(server, tmp_path, IMPATIENT)
    assert contents(tmp_path) == {}


def test_headers_that_trickle_are_as_good_as_silence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with suppress(OSError), connection:
                        connection.sendall(b"HTTP/1.1 200 OK\r\n")
                        for number in range(100):
                            connection.sendall(b"X-%d: 1\r\n" % number)
                            time.sleep(0.1)

        threading.Thread(target=trickle, daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/file.bin"
        with pytest.raises(DeeperError, match=r"no answer within 0\.5 s"):
            fetch(address, tmp_path / "file.bin", nothing_wrong, Notes(), IMPATIENT)
    assert contents(tmp_path) == {}


def test_nobody_there(tmp_path: Path) -> None:
    with serving(status(500)) as server:
        pass
    assert "no answer (ConnectError" in refused(server, tmp_path)


# ------------------------------------------------------------------------------------------------ redirects


def test_redirects_are_followed_and_the_rest_is_asked_for_there(tmp_path: Path) -> None:
    def elsewhere(asked: Asked) -> Answer:
        if asked.path == "/file.bin":
            return Answer((), 302, {"Location": "/there"})
        whole = honest(CONTENT)
        return whole(asked) if asked.start else breaking_off(60_000, whole)(asked)

    with serving(elsewhere) as server:
        assert fetched(server, tmp_path) == len(CONTENT)
    assert contents(tmp_path) == {"file.bin": CONTENT}
    assert [(asked.path, asked.start) for asked in server.asked] == [
        ("/file.bin", None),
        ("/there", None),
        ("/file.bin", 60_000),
        ("/there", 60_000),
    ]


def test_a_loop_of_redirects_ends(tmp_path: Path) -> None:
    with serving(status(302, Location="/file.bin")) as server:
        assert "redirects more than 5 times in a row" in refused(server, tmp_path)
    assert len(server.asked) == 6


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/file.bin", "file://127.0.0.1/etc/passwd"])
def test_redirects_lead_to_no_other_scheme(tmp_path: Path, target: str) -> None:
    with serving(status(301, Location=target)) as server:
        assert f"redirects to {target}: nothing is fetched from there" in refused(server, tmp_path)
    assert contents(tmp_path) == {}


# --------------------------------------------------------------------------------------------- short texts


def test_a_text() -> None:
    with serving(status(500), honest(b"abc  file.bin\n")) as server:
        assert fetch_text(server.address("file.md5"), Notes(), SHORT) == "abc  file.bin\n"
    with serving(status(404)) as server:
        assert fetch_text(server.address("file.md5"), Notes(), SHORT) is None
    with serving(honest(CONTENT)) as server, pytest.raises(DeeperError, match="is no short text"):
        fetch_text(server.address("file.md5"), Notes(), SHORT)
