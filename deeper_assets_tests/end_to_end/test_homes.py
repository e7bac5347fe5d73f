"""What may be read of a home and by whom, and when a command changes what is recorded there."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeper_assets import privacy
from deeper_assets.instance import alone_in
from deeper_assets.layers import recorded_settings
from deeper_assets_tests.chat_server.process import chat_server
from deeper_assets_tests.command import SMALL, deeper, environment
from deeper_assets_tests.end_to_end.dagster_ui import opened, runs
from deeper_assets_tests.end_to_end.test_chat import SMALLEST, client_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    """Of whoever starts the commands: others may read their files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(home: Path) -> dict[str, str]:
    """The mode of a folder and of everything in it, by path."""
    everything = [home, *home.rglob("*")]
    return {str(path.relative_to(home)): stat.filemode(path.lstat().st_mode) for path in everything}


def open_to_all(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def copy(small_home: Path, tmp_path: Path) -> Path:
    """A home as it was made before homes were private."""
    home = Path(shutil.copytree(small_home, tmp_path / "home"))
    open_to_all(home)
    return home


def test_all_that_a_run_and_the_ui_make_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "studies" / "home"
    training = {
        "DEEPER_TRAIN_RECIPES": "balanced",
        "DEEPER_TRAINING_DOMAINS": "book",
        "DEEPER_CANDIDATES": "4",
        "DEEPER_TRAINING": '{"epochs": 1, "batch_size": 2, "examples_at_once": 2}',
    }
    with chat_server() as server:
        variables = {**training, **client_of(server)}
        deeper("run", "--home", home, *SMALLEST, **variables)
    with opened(home, environment(**variables)) as address:
        assert {run["status"] for run in runs(address)} == {"SUCCESS"}
    deeper("report", "--home", home, **variables)
    deeper("lineage", "mae_table", "--home", home, **variables)
    found = modes(home)
    assert {mode for mode in found.values() if mode.startswith("d")} == {"drwx------"}
    assert {mode for mode in found.values() if not mode.startswith("d")} == {"-rw-------"}
    assert {path.split("/")[0] for path in found} >= {
        *("warehouse.duckdb", "warehouse.duckdb.lock", "warehouse.duckdb.queue", "journal.sqlite"),
        *("settings.yaml", "run.lock", "dagster", "models", "training", "scratch"),
    }
    assert any(path.endswith("adapter_model.safetensors") for path in found)
    assert stat.filemode(home.parent.stat().st_mode) == "drwxr-xr-x"


def test_a_run_closes_a_home_that_others_could_read(copy: Path, tmp_path: Path) -> None:
    """Links lead to what is not of the home."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "file").write_text("of somebody else")
    (copy / "models").mkdir(exist_ok=True)
    (copy / "models" / "linked").symlink_to(elsewhere)
    (copy / "models" / "file").symlink_to(elsewhere / "file")
    deeper("run", "--home", copy)
    found = modes(copy)
    assert {mode for mode in found.values() if not mode.startswith("l")} == {"drwx------", "-rw-------"}
    assert modes(elsewhere) == {".": "drwxr-xr-x", "file": "-rw-r--r--"}


def test_what_else_lies_in_the_folder_keeps_its_mode(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    deeper("run", "--home", copy)
    found = modes(copy)
    assert (found["."], found["notes.txt"]) == ("drwxr-xr-x", "-rw-r--r--")
    closed = {mode for path, mode in found.items() if path.startswith(("warehouse", "run.lock", "dagster"))}
    assert closed == {"drwx------", "-rw-------"}


def test_what_is_not_ours_is_not_closed(tmp_path: Path) -> None:
    """A link in a home, and folders of somebody's project that are called as ours are."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    home, project = tmp_path / "home", tmp_path / "project"
    for folder in (home, project / "models" / "bin"):
        folder.mkdir(parents=True)
    for file in (theirs / "weights", home / "warehouse.duckdb", project / "models" / "bin" / "tool"):
        file.write_text("x")
        file.chmod(0o755)
    (project / "warehouse.duckdb").write_text("x")
    (project / "README").write_text("mine")
    (home / "models").symlink_to(theirs)
    for folder in (home, project):
        privacy._close(folder)
    assert modes(theirs) == {".": "drwxr-xr-x", "weights": "-rwxr-xr-x"}
    assert (modes(home)["."], modes(home)["warehouse.duckdb"]) == ("drwx------", "-rwx------")
    assert modes(project)["models/bin/tool"] == "-rwxr-xr-x"
    assert modes(project)["warehouse.duckdb"] == "-rw-------"


def test_a_home_that_was_closed_to_others_alone_stays_the_groups(copy: Path, tmp_path: Path) -> None:
    copy.chmod(0o750)
    for left in (copy / "scratch").glob("handed-*"):  # the next run deletes it
        shutil.rmtree(left)
    before = modes(copy)
    deeper("run", "--home", copy)
    assert modes(copy) == before
    new = tmp_path / "new"
    new.mkdir(mode=0o750)
    deeper("run", "--home", new, *SMALLEST)
    assert set(modes(new).values()) == {"drwxr-x---", "-rw-r-----"}


def test_what_is_written_for_others_follows_their_umask(copy: Path, tmp_path: Path) -> None:
    """A report is for showing; the journal holds answers that were paid for."""
    (copy / "models").mkdir(exist_ok=True)
    out = tmp_path / "out"
    deeper("report", "--home", copy, "--html", out / "report.html")
    deeper("journal", "--home", copy, "export", tmp_path / "answers.jsonl")
    assert modes(out) == {".": "drwxr-xr-x", "report.html": "-rw-r--r--"}
    assert stat.filemode((tmp_path / "answers.jsonl").stat().st_mode) == "-rw-------"


def test_a_run_that_is_refused_records_nothing(copy: Path, tmp_path: Path) -> None:
    before = recorded_settings(copy)
    with alone_in(copy):
        refused = deeper("run", "--home", copy, "--eval-users", "3", check=False)
    assert refused.returncode == 1
    assert "another `deeper run`" in refused.stderr
    assert recorded_settings(copy) == before
    assert before["eval_users"] == 4
    said = deeper("run", "--home", copy).stdout
    assert "0 partitions made in 0 runs, 25 had nothing to do" in said


def test_settings_that_do_not_fit_together_are_not_recorded(copy: Path, tmp_path: Path) -> None:
    before, new = recorded_settings(copy), tmp_path / "new"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("extends: offline\ntrain_recipes: [balanced]\ntraining_domains: [grocery]\n")
    for home in (copy, new):
        refused = deeper("run", "--home", home, "--profile", wrong, check=False, DEEPER_TRAIN_RECIPES="paper")
        assert refused.returncode == 1
        assert "training_domains: 'grocery' only evaluates" in refused.stderr
    assert recorded_settings(copy) == before
    assert not new.exists()


def test_an_estimate_records_nothing(copy: Path) -> None:
    before = recorded_settings(copy)
    deeper("estimate", "--home", copy, "--eval-users", "3", "--domains", "book")
    assert recorded_settings(copy) == before
    assert before["evaluate"] == SMALL[1].split(",")
