import gzip
import logging
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources import streams
from deeper_assets.sources.streams import BLOCK, LONGEST_LINE, Blocks, through_fifo

LINES = b"".join(b"%d,%x\n" % (number, random.Random(number).getrandbits(64)) for number in range(150_000))


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("writes ")]


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert writers() == []


@pytest.mark.parametrize("members", [[LINES], [LINES[:70_001], LINES[70_001:]], [LINES, b"", b"end"]])
def test_the_same_bytes_packed_or_not(tmp_path: Path, members: list[bytes]) -> None:
    plain, packed = tmp_path / "a", tmp_path / "a.gz"
    plain.write_bytes(b"".join(members))
    packed.write_bytes(b"".join(map(gzip.compress, members)) + bytes(5000))
    for path in (plain, packed):
        blocks = Blocks(path)
        assert b"".join(blocks) == plain.read_bytes()
        assert blocks.breaks_off is None
        assert all(block.endswith(b"\n") for block in list(blocks)[:-1])


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    for name in ("a", "a.gz"):
        (tmp_path / name).touch()
        assert list(Blocks(tmp_path / name)) == []


def test_where_a_packed_file_breaks_off_all_whole_lines_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(LINES)[:-50_000])
    blocks = Blocks(path)
    content = b"".join(blocks)
    assert content.endswith(b"\n")
    assert LINES.startswith(content)
    assert len(LINES) - len(content) < 150_000
    assert blocks.breaks_off == "the file cannot be unpacked from here on: it breaks off before its end"


def test_a_packed_file_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    packed = gzip.compress(LINES)
    path.write_bytes(packed[:-8] + bytes(4) + packed[-4:])
    blocks = Blocks(path)
    assert LINES.startswith(b"".join(blocks))
    assert blocks.breaks_off is not None
    assert "checksum" in blocks.breaks_off


def test_what_is_no_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(LINES)
    with pytest.raises(DeeperError, match=r"a\.gz cannot be unpacked: it is no gzip file"):
        list(Blocks(path))


def test_a_line_that_does_not_end_loses_its_end_and_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"1\n" + b"x" * 5 * LONGEST_LINE + b"y\n2\n3"))
    one, long, two, three = b"".join(Blocks(path)).split(b"\n")
    assert (one, two, three) == (b"1", b"2", b"3")
    assert set(long) == set(b"x")
    assert LONGEST_LINE <= len(long) <= LONGEST_LINE + BLOCK


def test_progress_is_told_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(LINES)
    monkeypatch.setattr(streams, "TELLS_EVERY", 0)
    with caplog.at_level(logging.INFO, "deeper_assets"):
        list(Blocks(path))
        assert caplog.messages == []
        list(Blocks(path, tells=True))
    assert len(caplog.messages) == 1 + len(LINES) // BLOCK
    assert caplog.messages[0].startswith("a.csv: 1.05MB of 3.")
    assert caplog.messages[-1].endswith("read, about 00:00 left")


def test_duckdb_reads_what_the_thread_writes(tmp_path: Path) -> None:
    with duckdb.connect() as connection, through_fifo([b'{"a": 1}\n' * 100_000] * 3, tmp_path) as fifo:
        query = (
            f"SELECT count(*), sum(a) FROM read_json('{fifo}', columns = {{a: 'INT'}}, auto_detect = false, "
        )
        answer = connection.execute(query + "format = 'newline_delimited', compression = 'none')").fetchall()
    assert answer == [(300_000, 300_000)]
    assert not fifo.exists()


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_reader_that_never_comes(tmp_path: Path) -> None:
    with through_fifo([b"x" * 1_000_000], tmp_path):
        pass


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_reader_that_leaves(tmp_path: Path) -> None:
    with through_fifo([b"x" * 1_000_000] * 100, tmp_path) as fifo, fifo.open("rb") as file:
        assert file.read(10) == b"x" * 10


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_reader_that_reads_no_more(tmp_path: Path) -> None:
    with through_fifo([b"x" * 1_000_000] * 100, tmp_path) as fifo:
        reader = os.open(fifo, os.O_RDONLY)
        assert os.read(reader, 10) == b"x" * 10
    os.close(reader)


@pytest.mark.timeout(60)
def test_who_reads_twice_finds_nothing_more(tmp_path: Path) -> None:
    with through_fifo([b"once\n"], tmp_path) as fifo:
        assert fifo.read_bytes() == b"once\n"
        assert fifo.read_bytes() == b""


@pytest.mark.timeout(60)
def test_an_error_of_the_thread_ends_the_reading_and_is_raised(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"some\n"
        raise DeeperError("the disk is gone")

    with pytest.raises(DeeperError, match="the disk is gone"), through_fifo(blocks(), tmp_path) as fifo:
        assert fifo.read_bytes() == b"some\n"


@pytest.mark.timeout(60)
def test_an_error_of_the_reader_ends_the_thread(tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error), through_fifo([b"x\n" * 1_000_000] * 9, tmp_path) as fifo:
        duckdb.connect().execute(f"FROM read_json('{fifo}', columns = {{a: 'INT'}}, auto_detect = false)")
