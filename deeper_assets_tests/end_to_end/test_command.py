"""The `deeper` command, run as a user runs it: whole graphs, faults, kills, and what is said about them."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
from dagster import DagsterRunStatus

from deeper_assets import __version__
from deeper_assets.instance import open_instance
from deeper_assets.method.ceilings import CEILINGS
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.floors import FLOORS
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.store.ledger import Stamp
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import SMALL, deeper, environment

pytestmark = pytest.mark.slow

Tables = Callable[[Path], dict[str, pd.DataFrame]]


def assert_same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], obj=name)


def versions(home: Path) -> dict[tuple[str, str], int]:
    current = Warehouse(home / "warehouse.duckdb").current()
    return {(version.table, str(version.partition)): version.version for version in current}


def ledger(home: Path) -> int:
    return len(Warehouse(home / "warehouse.duckdb").history())


def test_the_json_holds_every_method_control_and_floor_in_every_round(small_home: Path) -> None:
    said = json.loads(deeper("report", "--home", small_home, "--json").stdout)
    assert set(said) == {"profile", "rounds", "macro", "comparison"}
    assert said["profile"] == "offline"
    rows = {(row["domain"], row["method"], row["kind"], row["round"]) for row in said["rounds"]}
    of_kinds = {"method": PROMPT_METHODS, "control": CONTROLS, "ceiling": CEILINGS, "floor": FLOORS}
    kinds = [(name, kind) for kind, names in of_kinds.items() for name in names]
    assert rows == {(d, m, k, r) for d in ("book", "grocery") for m, k in kinds for r in range(5)}
    assert all(row["users"] == 4 and row["unreadable"] == 0 for row in said["rounds"])
    by_hand = {(row["method"], row["round"]): row["mae"] for row in said["macro"]}
    for (method, round_), mae in by_hand.items():
        both = [row["mae"] for row in said["rounds"] if (row["method"], row["round"]) == (method, round_)]
        assert mae == pytest.approx(sum(both) / 2)


def test_run_again_there_is_nothing_to_do(small_home: Path) -> None:
    before = ledger(small_home)
    said = deeper("run", "--home", small_home)  # what flags said was recorded
    assert "0 partitions made in 0 runs, 25 had nothing to do" in said.stdout
    assert ledger(small_home) == before


def test_every_run_stands_in_the_homes_own_dagster_instance(small_home: Path) -> None:
    with open_instance(small_home) as instance:
        runs = instance.get_runs()
    assert {run.status for run in runs} == {DagsterRunStatus.SUCCESS}
    written = {version.run_id for version in Warehouse(small_home / "warehouse.duckdb").current()}
    assert written == {run.run_id for run in runs}


def test_one_process_or_several_give_the_same_tables(
    small_home: Path, tmp_path: Path, tables: Tables
) -> None:
    deeper("run", "--home", tmp_path, *SMALL, DEEPER_PROCESSES="1")
    assert_same(tables(small_home), tables(tmp_path))


def test_a_changed_setting_makes_stale_what_it_touches_and_nothing_else(
    small_home: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(small_home, tmp_path / "home"))
    before = versions(home)
    template = tmp_path / "slide.txt"
    template.write_text(
        "Describe who rated these ($item_type items).\n$ratings\nUse at least $persona_words words.\n"
    )
    profile = tmp_path / "own.yaml"
    profile.write_text("extends: offline\nprompts: {slide_regen: slide.txt}\n")
    deeper("run", "--home", home, "--domains", "book", "--profile", profile)
    after = versions(home)
    changed = {table for (table, partition), version in after.items() if before[table, partition] != version}
    assert {"persona_rounds", "round_predictions"} <= changed
    assert not changed & {"raw_ratings", "rating_windows", "initial_personas", "initial_predictions"}
    for (table, partition), version in after.items():
        if table == "persona_rounds" and before[table, partition] != version:
            assert "slide_regen" in partition


def test_figures_of_different_settings_are_not_mixed_in_silence(small_home: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(small_home, tmp_path / "home"))
    said = "Made from other settings or inputs than now: book, grocery; `deeper run` makes them anew."
    assert said not in deeper("report", "--home", home).stdout
    assert said in deeper("report", "--home", home, DEEPER_EVAL_USERS="2").stdout


def test_domains_are_recorded_and_the_tables_are_of_those_alone(
    small_home: Path, tmp_path: Path, tables: Tables
) -> None:
    home = Path(shutil.copytree(small_home, tmp_path / "home"))
    said = deeper("run", "--home", home, "--domains", "book").stdout
    assert "3 partitions made in 1 runs, 14 had nothing to do" in said  # the tables over all domains
    reported = deeper("report", "--home", home).stdout
    for text in (said, reported, deeper("lineage", "mae_table", "--home", home).stdout):
        assert "grocery" not in text
    for text in (said, reported):
        assert "macro average over 1 domains: MAE on the next window by round, 4 users" in text
    estimated = deeper("estimate", "--home", home, "--domains", "grocery").stdout
    assert "users stored in this home: grocery\n" in estimated
    assert "0 partitions made in 0 runs, 15 had nothing" in deeper("run", "--home", home).stdout
    said = deeper("run", "--home", home, "--domains", "book,grocery").stdout
    assert "3 partitions made in 1 runs, 24 had nothing to do" in said
    assert_same(tables(home), tables(small_home))


def test_figures_of_inputs_that_have_changed_are_not_shown_in_silence(
    small_home: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(small_home, tmp_path / "home"))
    said = "Made from other settings or inputs than now: book; `deeper run` makes them anew."
    assert said not in deeper("report", "--home", home).stdout
    warehouse = Warehouse(home / "warehouse.duckdb")
    (before,) = [v for v in warehouse.current("rating_windows") if v.partition == {"domain": "book"}]
    rows = warehouse.load("rating_windows", {"domain": ["book"]})
    stamp = Stamp("another", before.ingredients, before.inputs)
    warehouse.replace("rating_windows", before.partition, rows, stamp)
    assert said not in deeper("report", "--home", home).stdout  # the same rows again
    warehouse.replace("rating_windows", before.partition, rows.query("user_id > user_id.min()"), stamp)
    assert said in deeper("report", "--home", home).stdout


def test_killed_at_any_moment_it_finishes_with_the_same_tables(
    small_home: Path, tmp_path: Path, tables: Tables
) -> None:
    command = [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(tmp_path / "home"), *SMALL]
    chance = random.Random(5)
    for far in (0, 5, 15):  # of 25 units
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.split("/")[0].isdigit() and int(line.split("/")[0]) >= far:
                break
        time.sleep(chance.random())
        # The parent alone: its workers have to notice by themselves.
        process.kill()
        assert process.wait() == -signal.SIGKILL
    deeper("run", "--home", tmp_path / "home", *SMALL)
    assert_same(tables(small_home), tables(tmp_path / "home"))
    with open_instance(tmp_path / "home") as instance:
        unfinished = [run for run in instance.get_runs() if not run.is_finished]
    assert not unfinished


def test_a_killed_worker_is_reported_and_the_next_run_finishes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(tmp_path), *SMALL]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("7/25"):
            workers = [
                one
                for one in psutil.Process(process.pid).children()
                if "spawn_main" in " ".join(one.cmdline())
            ]
            workers[0].kill()
            break
    said += process.stderr.readlines()
    assert process.wait() == 1
    assert any("a worker process was killed" in line for line in said)
    assert not any("Traceback" in line for line in said)
    deeper("run", "--home", tmp_path, *SMALL)
    assert (
        len(Warehouse(tmp_path / "warehouse.duckdb").load("mae_table"))
        == (len(PROMPT_METHODS) + len(CONTROLS) + len(CEILINGS) + len(FLOORS)) * 5 * 3
    )


def test_a_missing_dataset_is_named_and_the_other_domains_are_made(
    published_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "amazon_book").symlink_to(published_data / "amazon_book")
    said = deeper(
        "run", "--home", tmp_path / "home", "--data", data, *SMALL, check=False
    )  # fmt: skip
    assert said.returncode == 1
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("deeper: personas")]
    assert "grocery" in line
    assert "amazon_grocery_and_gourmer_food" in line
    assert "Traceback" not in said.stderr
    stored = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    assert set(stored.load("round_errors")["domain"]) == {"book"}
    assert "book" in said.stdout


def test_a_failed_check_says_why_and_is_not_passed_over(tmp_path: Path) -> None:
    for _ in range(2):  # the second time everything before the check is stored already
        said = deeper("run", "--home", tmp_path, *SMALL, check=False, DEEPER_TRAIN_SHARE="1")
        assert said.returncode == 1
        (line,) = [line for line in said.stderr.splitlines() if line.startswith("deeper: personas book")]
        assert line == (
            "deeper: personas book: stopped by a check on rating_windows: someone_to_evaluate: 0 evaluation"
            " users: all 3 users train; lower train_share (1), or name some as eval in the column that"
            f" columns.split names; `deeper rejects --domain book --home {tmp_path}` shows who fell out"
        )
    stored = Warehouse(tmp_path / "warehouse.duckdb")
    assert set(stored.load("initial_personas")["domain"]) == {"grocery"}


def test_a_domain_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    # Five users; u4 has too few ratings, and one of u0's is no number.
    lines = ["who,what,name,stars,day"]
    for user in range(5):
        for i in range(60 if user < 4 else 20):
            stars = "great" if (user, i) == (0, 3) else str(1 + (user + i) % 5)
            lines.append(
                f"u{user},e{i},The Tale of Dragon {i},{stars},2024-01-{1 + i // 24:02}T{i % 24:02}:00:00"
            )
    # Pandas takes this user for u1.
    lines += [f"u1\0x,e{i},The Tale of Dragon {i},4,2024-01-0{1 + i // 24}" for i in range(50)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "own.yaml").write_text(
        """\
extends: offline
train_users: all
eval_users: all
domains:
  podcasts:
    item_type: podcast episode
    scale: {lowest: 1, highest: 5, step: 1}
    seen: false
    file: ratings.csv
    columns: {user: who, item: what, title: name, rating: stars, time: day}
"""
    )
    home = tmp_path / "home"
    said = deeper("run", "--home", home, "--profile", tmp_path / "own.yaml").stdout
    assert "podcasts: MAE on the next window by round, 4 users" in said
    warehouse = Warehouse(home / "warehouse.duckdb")
    rejected = warehouse.load("rejected_ratings")
    assert (rejected["reason"] == "unusable_text").sum() == 50
    rejected = rejected[rejected["reason"] != "unusable_text"]
    assert sorted(rejected[["user_id", "reason", "line"]].values.tolist(), key=str) == [
        ["u0", "not_a_number", 5],
        ["u4", "too_few_windows", 242],
    ]
    windows = warehouse.load("rating_windows")
    assert windows.groupby(["user_id", "window"]).size()["u0", 0] == 9
    tree = deeper("lineage", "round_errors", "--home", home, "--domain", "podcasts", "--user", "u1").stdout
    assert "ratings.csv" in tree
    assert "user u1: 60 rows" in tree


def test_a_rating_log_becomes_tables_in_two_commands(tmp_path: Path) -> None:
    lines = ["user_id,episode_id,episode_title,stars,rated_at"]
    for user in range(6):
        for i in range(60):
            lines.append(
                f"u{user},e{i},The Tale of Dragon {i},{1 + (user * i + i // 7) % 5},{1.7e9 + 999 * i:.0f}"
            )
    (tmp_path / "podcasts.csv").write_text("\n".join(lines) + "\n")
    profile, home = tmp_path / "podcasts.yaml", tmp_path / "home"
    told = deeper("init", tmp_path / "podcasts.csv", "--profile", profile).stdout
    assert "6 users have enough windows of 10 ratings" in told
    said = deeper("run", "--home", home, "--profile", profile).stdout
    told_eval = told.partition(" be evaluated")[0].rpartition(" and ")[2]
    assert f"macro average over 1 domains: MAE on the next window by round, {told_eval} users" in said
    assert "floor_user_median" in said
    assert "book" not in said


def test_ratings_that_say_nothing_are_warned_of_at_the_terminal(tmp_path: Path) -> None:
    lines = ["who,what,stars"] + [f"u{user},e{i},4" for user in range(4) for i in range(50)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "own.yaml").write_text(
        """\
extends: offline
domains:
  podcasts:
    item_type: podcast episode
    scale: {lowest: 1, highest: 5, step: 1}
    seen: false
    file: ratings.csv
    columns: {user: who, item: what, rating: stars}
"""
    )
    home = tmp_path / "home"
    said = deeper("run", "--home", home, "--profile", tmp_path / "own.yaml")
    warnings = [line for line in said.stderr.splitlines() if line.startswith("deeper: warning: ")]
    checks = {line.split(": ")[3]: line for line in warnings}
    assert len(checks) == len(warnings)  # each once
    assert {"ratings_differ", "titles_tell", "methods_differ"} <= set(checks)
    assert (
        "podcasts: 4 of 4 users give one mark alone, e.g. 4; then no method errs" in checks["ratings_differ"]
    )
    assert "podcasts: 50 of 50 titles are codes, e.g. 'e0'; name the column" in checks["titles_tell"]
    assert "4 of 4 methods err alike on every user" in checks["methods_differ"]


def test_lineage_goes_from_the_table_to_the_source(small_home: Path) -> None:
    tree = deeper("lineage", "mae_table", "--home", small_home, "--domain", "book").stdout
    for name in ("floors_table", "round_errors", "round_predictions", "initial_personas", "rating_windows"):
        assert name in tree
    assert "kind synthetic" in tree
    assert "model offline-chat-2" in tree
    (naming,) = {line.strip("│ ") for line in tree.splitlines() if "grocery" in line}
    assert naming == 'evaluated.domains: ["book","grocery"]'
    runs = {run for line in tree.splitlines() if " run " in line for run in [line.split(" run ")[1][:12]]}
    with open_instance(small_home) as instance:
        assert runs <= {run.run_id[:12] for run in instance.get_runs()}


def test_the_page_stands_alone(small_home: Path, tmp_path: Path) -> None:
    deeper("report", "--home", small_home, "--html", tmp_path / "deep" / "page.html")
    page = (tmp_path / "deep" / "page.html").read_text()
    assert page.count("data:image/svg+xml") == 3  # the average and two domains
    assert "floor_user_median" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--domains", "boks"], "evaluate: 'boks' is no domain; did you mean 'book'?"),
        (["run", "--data", "nowhere"], "no such folder"),
        (["run", "--profile", "ofline"], "did you mean 'offline'?"),
        (["run", "--eval-users", "0"], "0 is too few"),
        (["report"], "no tables in"),
        (["lineage", "mae_tabel"], "table 'mae_tabel' does not exist; known: raw_ratings"),
        (["lineage", "mae_table"], "nothing of mae_table has been made"),
    ],
)
def test_errors_are_one_readable_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    said = deeper(*arguments, "--home", tmp_path / "home", check=False)
    assert said.returncode != 0
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert (
        len([line for line in said.stderr.splitlines() if "rror" in line or line.startswith("deeper:")]) <= 1
    )


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    said = deeper("--debug", "report", "--home", tmp_path, check=False)
    assert "Traceback" in said.stderr


def test_version_and_help_teach() -> None:
    assert deeper("--version").stdout.strip() == f"deeper, version {__version__}"
    said = deeper("--help").stdout
    for word in ("run", "report", "lineage", "--data FOLDER"):
        assert word in said


def test_two_runs_do_not_share_a_home(small_home: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(tmp_path), *SMALL],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not ((tmp_path / "run.lock").exists() and (tmp_path / "run.lock").read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        said = deeper("run", "--home", tmp_path, *SMALL, check=False)
        assert said.returncode == 1
        assert f"another `deeper run` (process {process.pid}) is at work" in said.stderr
    finally:
        process.wait()
    assert process.returncode == 0
