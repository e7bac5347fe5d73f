"""What only reads works in a home that cannot be written, and beside a process that holds the warehouse."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deeper_assets.engines.chat.entries import Entry
from deeper_assets.engines.chat.journal import Journal
from deeper_assets_tests.command import command, deeper, environment
from deeper_assets_tests.read_only import beside_read_only

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small home, with a paid answer in its journal."""
    copy = Path(shutil.copytree(small_home, tmp_path_factory.mktemp("read") / "home"))
    entry = Entry("Hello.", None, 10, 4, 2, 0.25)
    Journal(copy / "journal.sqlite").record(("0" * 64, 0), "m", {"model": "m"}, entry)
    return copy


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report"], "book: MAE on the next window by round, 4 users"),
        (["report", "--html", "page.html"], ""),
        (["lineage", "mae_table"], "kind synthetic"),
        (["journal"], "1 answers"),
        (["rejects", "--domain", "book"], "book: 0 of 24 users and 0 of"),
    ],
)
def test_it_works_in_a_home_that_cannot_be_written(
    home: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    started = beside_read_only(home, command(*arguments, "--home", home))
    done = subprocess.run(
        started, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert "--html" not in arguments or (tmp_path / "page.html").exists()


def test_a_run_in_such_a_home_says_what_it_cannot_write(home: Path) -> None:
    started = beside_read_only(home, command("run", "--home", home))
    done = subprocess.run(started, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"deeper: {home}/run.lock cannot be written (Read-only file system)" in done.stderr


def opened_by(process: int) -> Iterator[str]:
    """The files that a process has open."""
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # closed by now
            yield str(file.readlink())


def test_it_waits_for_whoever_writes(home: Path) -> None:
    hold = (
        "import sys, time; from pathlib import Path; from deeper_assets.store.warehouse import Warehouse\n"
        "with Warehouse(Path(sys.argv[1])).connect(writing=True):\n"
        "    print('held', flush=True); sys.stdin.readline()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(home / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == "held\n"
        held = deeper("rejects", "--home", home, check=False, DEEPER_LOCK_TIMEOUT="0.5")
        assert f"is held by process {holder.pid}" in held.stderr
        with subprocess.Popen(
            command("rejects", "--home", home), env=environment(), stdout=subprocess.PIPE, text=True
        ) as waiting:
            while not any("warehouse.duckdb" in file for file in opened_by(waiting.pid)):
                assert waiting.poll() is None
                time.sleep(0.01)
            holder.stdin.write("go on\n")
            holder.stdin.flush()
            assert "book: 0 of 24 users" in waiting.communicate()[0]
    finally:
        holder.kill()
        holder.wait()


def test_of_reasons_and_domains_the_known_ones_are_suggested(home: Path) -> None:
    said = deeper("rejects", "--home", home, "--domain", "boks", check=False)
    assert "did you mean 'book'?" in said.stderr
    said = deeper("rejects", "--home", home, "--reason", "to_few_windows", check=False)
    assert "reason 'to_few_windows' is not known; did you mean 'too_few_windows'?" in said.stderr
    said = deeper("rejects", "--home", home, "--domain", "recipe", check=False)
    assert f"nothing of 'recipe' has been read in {home} yet; `deeper run` reads it" in said.stderr


def test_it_works_beside_a_run(home: Path, tmp_path: Path) -> None:
    """A `deeper run` that makes everything anew in a copy of the home, for another seed and more domains."""
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    anew = command("run", "--home", copy, "--domains", "book,grocery,recipe,clothing,movielens,automotive")
    with subprocess.Popen(anew, env=environment(DEEPER_SEED="5"), stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        assert run.stderr.readline()  # it is at work
        for arguments, says in (
            (["report"], "book: MAE on the next window by round, 4 users"),
            (["lineage", "mae_table"], "kind synthetic"),
            (["journal"], "1 answers"),
            (["rejects"], "book: 0 of 24 users"),
        ):
            done = deeper(*arguments, "--home", copy, check=False)
            assert (done.returncode, says in done.stdout) == (0, True), done.stderr
        assert run.poll() is None, "it is still at work"
        run.terminate()
        run.communicate()
