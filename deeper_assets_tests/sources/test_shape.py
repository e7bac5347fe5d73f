import hashlib
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.csv_files import load_csv
from deeper_assets.sources.folders import handing_folder, sweep
from deeper_assets.sources.json_lines import load_json_lines
from deeper_assets.sources.shape import (
    COLUMNS,
    RawRating,
    Workshop,
    load_rows,
    readable,
    scratch,
    sha256_of,
    write,
)
from deeper_assets_tests.sources.reading import picked


def ratings(rows: list[RawRating]) -> list[dict[str, Any]]:
    """What becomes of rows that say positions."""
    with scratch() as (connection, folder):
        load_rows(connection, folder, rows)
        assert list(folder.iterdir()) == []
        answer = connection.execute("FROM ratings")
        names = [name for name, *_ in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def test_rows_are_numbered(tmp_path: Path) -> None:
    rows = ratings([RawRating(user_id="u", position=3), RawRating(defect="missing_user")])
    assert [list(row) for row in rows] == [list(COLUMNS)] * 2
    assert picked(rows, "row", "has_place", "defect") == [(0, True, None), (1, False, "missing_user")]
    assert ratings([]) == []


def test_a_home_that_is_called_like_a_column_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "rating=7"))
    (tmp_path / "rating=7").mkdir()
    assert picked(ratings([RawRating(user_id="u", rating=3.0, position=0)]), "rating") == [(3.0,)]


def test_any_text_survives_but_nuls_and_halves() -> None:
    titles = ['"It\'s", she said', "two\nlines", "日本 🎬", "nul\x00", "half a pair \ud83d"]
    rows = ratings([RawRating(title=title) for title in titles])
    assert picked(rows, "title", "row", "defect") == [
        ('"It\'s", she said', 0, None),
        ("two\nlines", 1, None),
        ("日本 🎬", 2, None),
        ("nul�", 3, "unusable_text"),
        ("half a pair �", 4, "unusable_text"),
    ]


def test_users_with_half_a_character_are_nobody_and_not_one() -> None:
    rows = [RawRating(user_id="a\ud800", position=0), RawRating(user_id="a\udfff", position=1)]
    rows += [RawRating(user_id="b\0", position=2, defect="short_window", detail="has 9\0")]
    said = "the user id holds a NUL or half a character, at �: a�"
    assert picked(ratings(rows), "user_id", "position", "defect", "detail") == [
        (None, None, "unusable_text", said),
        (None, None, "unusable_text", said),
        (None, None, "short_window", "has 9�"),
    ]


def test_a_workshop_spills_to_disk_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop").chmod(0o755)  # whatever the umask
    workshop = Workshop(tmp_path / "shop", "300 MB")
    with workshop.open() as (connection, folder):
        connection.execute(
            "CREATE TEMP TABLE many AS"
            " SELECT i, md5(i::VARCHAR) AS text FROM range(8000000) t(i) ORDER BY text"
        )
        spilled = sum(path.stat().st_size for path in (tmp_path / "shop").rglob("*") if path.is_file())
        assert spilled > 100e6
        connection.execute("CREATE TEMP TABLE few AS SELECT 7 AS i")
        [file] = workshop.hand_over([write(connection, "few", folder)])
    kept = list((tmp_path / "shop").rglob("*.parquet"))
    assert kept == [file]
    assert left(tmp_path / "shop", "cutting-*") == []
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o750
    assert duckdb.sql(f"FROM '{file}'").fetchall() == [(7,)]


def left(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


HOLDS = """
import sys
from pathlib import Path
from deeper_assets.sources.shape import Workshop, write
workshop = Workshop(Path(sys.argv[1]), "300 MB")
with workshop.open() as (connection, folder):
    connection.execute("CREATE TABLE a AS SELECT 1 AS b")
    workshop.hand_over([write(connection, "a", folder)])
    write(connection, "a", folder)
    print("open", flush=True)
    sys.stdin.read()
"""
"""A process that cuts until it is killed, or its input ends."""


def test_what_a_killed_process_leaves_is_deleted_and_what_is_held_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        sweep(tmp_path)
        of_the_other = [*left(tmp_path, "cutting-*"), *left(tmp_path, "handed-*")]
        assert [len(left(folder, "**/*.parquet")) for folder in of_the_other] == [1, 1]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [folder.exists() for folder in of_the_other] == [True, True]
    with Workshop(tmp_path, "300 MB").open():
        assert [folder.exists() for folder in of_the_other] == [False, False]
        sweep(tmp_path)
        assert len(left(tmp_path, "cutting-*")) == 1
    handing_folder(tmp_path)
    sweep(tmp_path)
    assert len(left(tmp_path, "handed-*")) == 1


def test_one_cut_of_a_home_runs_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workshop, order = Workshop(tmp_path, "300 MB"), list[str]()

    def second() -> None:
        with workshop.open():
            order.append("second")

    thread = threading.Thread(target=second)
    with caplog.at_level(logging.INFO), workshop.open():
        thread.start()
        while f"other histories are being cut in {tmp_path}" not in caplog.text:
            thread.join(0.01)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


@pytest.mark.parametrize("load", ["csv", "json"])
def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path, load: str) -> None:
    path = tmp_path / f"ratings.{load}"
    texts = (hashlib.sha256(b"%d" % n).hexdigest() * 3 for n in range(700_000))
    lines = (f'{{"a": "{text}"}}' for text in texts) if load == "json" else ("a", *texts)
    path.write_text("\n".join(lines))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # no file of ours grows beyond it
    try:
        with (
            pytest.raises(DeeperError, match=r"the histories cannot be cut .* make room on the disk"),
            Workshop(tmp_path / "shop", "100 MB").open() as (connection, folder),
        ):
            if load == "csv":
                load_csv(connection, folder, path, "read", {"a": "a"})
            else:
                load_json_lines(connection, folder, path, "read", ["a"], {"a": "a"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path / "shop", "cutting-*") == []


def test_too_little_memory_names_the_setting(tmp_path: Path) -> None:
    with (
        pytest.raises(DeeperError, match=r"cannot be cut in 20 MB of memory .* raise the setting memory"),
        Workshop(tmp_path, "20 MB").open() as (connection, _),
    ):
        connection.execute("SET temp_directory = ''")
        connection.execute("SELECT list(i) FROM range(30000000) t(i)").fetchall()


def test_a_hash_is_of_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, (1e9, 1e9))
    before = sha256_of(path)
    path.write_bytes(b"two")
    os.utime(path, (1e9, 1e9))
    assert (before, sha256_of(path)) == tuple(hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeeperError, match=r"gone\.csv does not exist; expected the ratings"):
        readable(tmp_path / "gone.csv", "the ratings")
    with pytest.raises(DeeperError, match="is a folder; expected the ratings"):
        readable(tmp_path, "the ratings")
    locked = tmp_path / "locked.csv"
    locked.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DeeperError, match=r"locked\.csv cannot be read \(Permission denied\)"):
        readable(locked, "the ratings")
