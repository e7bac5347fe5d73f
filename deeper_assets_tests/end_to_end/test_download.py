"""`deeper download` in a process of its own, from the official addresses as a local proxy answers them."""

import os
import re
import subprocess
import termios
from pathlib import Path

import pytest

from deeper_assets import cli_download
from deeper_assets_tests.command import command, deeper, environment
from deeper_assets_tests.sources.downloads.file_server import breaking_off, by_path, honest, status
from deeper_assets_tests.sources.downloads.official import official_addresses
from deeper_assets_tests.sources.downloads.test_fetching import MD5, REVIEWS, UNPACKED, ZIP, tree

FILES = by_path({"ml-20m.zip": honest(ZIP), "ml-20m.zip.md5": honest(MD5)})


def at_a_terminal(answer: str, *arguments: object, **variables: str) -> tuple[int, str]:
    """Runs the command at a terminal, and types an answer: its exit status, and all that it wrote."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (24, 100))
    process = subprocess.Popen(
        command(*arguments), stdin=its, stdout=its, stderr=its, env=environment(**variables)
    )
    os.close(its)
    os.write(ours, f"{answer}\n".encode())
    written = b""
    try:
        while block := os.read(ours, 65536):
            written += block
    except OSError:  # so a terminal says that nobody is there any more
        pass
    os.close(ours)
    return process.wait(), written.decode()


def test_a_licence_is_shown_and_has_to_be_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with official_addresses(tmp_path, FILES) as internet:
        refused = deeper("download", "movielens", "--to", folder, check=False, **internet.variables)
        assert (refused.returncode, internet.asked, folder.exists()) == (1, [], False)
        done = deeper("download", "movielens", "--to", folder, "--accept", **internet.variables)
    assert refused.stderr == (
        "deeper: nothing was fetched: --accept says that you accept the licence of MovieLens 20m\n"
    )
    for said in (
        "https://grouplens.org/datasets/movielens/20m/",
        "licence: for research;",
        "to cite: F. M. Harper",
    ):
        assert said in refused.stdout
        assert said in done.stdout
    assert tree(folder) == UNPACKED
    there = "".join(f"there: {folder / name}\n" for name in UNPACKED)
    assert done.stdout.endswith(
        f"{there}next: DEEPER_DOWNLOADS={folder} deeper run, or `downloads` in a profile\n"
    )
    assert internet.tunnels == ["files.grouplens.org:443"] * 2
    assert [asked.path for asked in internet.asked] == [
        "/datasets/movielens/ml-20m.zip.md5",
        "/datasets/movielens/ml-20m.zip",
    ]


def test_a_person_at_a_terminal_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    arguments = ("download", "movielens", "--to", folder)
    with official_addresses(tmp_path, FILES) as internet:
        refused, said = at_a_terminal("n", *arguments, **internet.variables)
        assert (refused, internet.asked) == (130, [])
        accepted, progress = at_a_terminal("y", *arguments, **internet.variables)
    assert accepted == 0
    assert "licence: for research;" in said
    assert "Do you accept that? [y/N]" in said
    assert "ml-20m.zip: 100%" in progress
    assert tree(folder) == UNPACKED


def test_progress_in_a_log_file_and_a_download_that_goes_on(tmp_path: Path) -> None:
    whole = by_path({"Books.jsonl.gz": honest(REVIEWS), "meta_Books.jsonl.gz": honest(REVIEWS)})
    with official_addresses(tmp_path, breaking_off(30, whole), whole) as internet:
        arguments = ("download", "amazon", "books", "--year", "2023", "--to", tmp_path / "data", "--accept")
        done = deeper(*arguments, **internet.variables)
    first, *others = done.stderr.splitlines()
    assert first.startswith(
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/"
    )
    assert first.endswith("again in 1 s")
    size = f"{len(REVIEWS)}B"
    assert [re.sub(r"\d\d:\d\d", "TIME", line) for line in others] == [
        f"Books.jsonl.gz: {size} of {size}, TIME gone",
        "checking Books.jsonl.gz",
        f"meta_Books.jsonl.gz: {size} of {size}, TIME gone",
        "checking meta_Books.jsonl.gz",
    ]
    assert [(asked.start, asked.sent) for asked in internet.asked] == [
        (None, 30),
        (30, len(REVIEWS) - 30),
        (None, len(REVIEWS)),
    ]
    assert tree(tmp_path / "data") == {"Books.jsonl.gz": REVIEWS, "meta_Books.jsonl.gz": REVIEWS}


def test_a_log_file_says_now_and_then_how_much_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = cli_download._Lines()
    progress.came("a.gz", 10_000_000, 100_000_000)
    progress.came("a.gz", 20_000_000, 100_000_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cli_download, "_EVERY", 0)
    progress.came("a.gz", 60_000_000, 100_000_000)
    line = capsys.readouterr().err
    assert re.fullmatch(r"a\.gz: 60\.0MB of 100MB, \d\d:\d\d gone, about \d\d:\d\d left\n", line)


def test_no_redirect_leads_out_of_https(tmp_path: Path) -> None:
    with official_addresses(tmp_path, status(302, Location="http://files.grouplens.org/x")) as internet:
        arguments = ("download", "movielens", "--to", tmp_path / "data", "--accept")
        done = deeper(*arguments, check=False, **internet.variables)
    assert done.returncode == 1
    assert "redirects to http://files.grouplens.org/x: nothing is fetched from there" in done.stderr


def test_a_certificate_that_nobody_vouches_for_is_said_at_once(tmp_path: Path) -> None:
    with official_addresses(tmp_path, FILES) as internet:
        arguments = ("download", "google-local", "new york", "--to", tmp_path / "data", "--accept")
        done = deeper(*arguments, check=False, HTTPS_PROXY=internet.variables["HTTPS_PROXY"])
        assert (len(internet.tunnels), internet.asked) == (1, [])
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert tree(tmp_path / "data") == {}


@pytest.mark.parametrize("more", [(), ("--to", "data", "--accept")])
def test_what_lies_behind_an_account_is_explained(more: tuple[str, ...]) -> None:
    done = deeper("download", "food", *more)
    assert "RAW_interactions.csv and RAW_recipes.csv" in done.stdout
    assert "https://www.kaggle.com/datasets/shuyangli94/food-com-recipes-and-user-interactions" in done.stdout


@pytest.mark.parametrize("where", ["/proc/x", "a file/x", "a file/x/y"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "a file").write_text("")
    folder = tmp_path / where
    with official_addresses(tmp_path, FILES) as internet:
        arguments = ("download", "movielens", "--to", folder, "--accept")
        done = deeper(*arguments, check=False, **internet.variables)
    assert (done.returncode, internet.asked) == (1, [])
    assert done.stderr.startswith("deeper: ")
    assert " cannot be written (" in done.stderr
    assert done.stderr.endswith("); --to names another folder\n")
