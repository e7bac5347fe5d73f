"""Whole runs with a chat model that is asked over HTTP and paid for: kills, secrets, what it cost."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import psutil
import pytest

from deeper_assets.engines.chat.journal import Journal
from deeper_assets.instance import open_instance
from deeper_assets.method.ceilings import SAID
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.chat_server.process import ChatServer, chat_server
from deeper_assets_tests.command import SMALL, command, deeper, environment

pytestmark = pytest.mark.slow

SECRET = "sk-planted-5ecre7-key"
WRONG = "sk-planted-wr0ng-key"
SMALLEST = ["--domains", "book", "--train-users", "2", "--eval-users", "2"]
PRICES = '{"input": 1.0, "output": 4.0}'


def client_of(server: ChatServer, **more: str) -> dict[str, str]:
    where = {"DEEPER_CHAT__ENGINE": "openai", "DEEPER_CHAT__MODEL": "local", "DEEPER_CHAT__CONCURRENCY": "8"}
    return {**where, "DEEPER_CHAT__BASE_URL": server.url, "DEEPER_CHAT__PRICES": PRICES, **more}


def asked_alike(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as any chat model leads to them: one ceiling is of the stand-in alone."""
    for label in {"method", "ceiling"} & set(rows):
        rows = rows[rows[label] != SAID]
    return rows.drop(columns="model", errors="ignore").reset_index(drop=True)


def test_a_killed_run_pays_nothing_twice_and_gives_the_same_tables(
    small_home: Path, tmp_path: Path, tables: Any
) -> None:
    """The server gives the stand-in's answers, so the tables are those of a run without any server."""
    home = tmp_path / "home"
    with chat_server("--latency", 0.05, "--faults", "rate_limited=0.05,error_late=0.05") as server:
        variables = environment(**client_of(server))
        process = subprocess.Popen(
            command("run", "--home", home, *SMALL),
            env=variables,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while server.stats()["paid_bodies"] < 100:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            one.send_signal(signal.SIGKILL)
        process.wait()
        printed = deeper("run", "--home", home, *SMALL, **client_of(server)).stdout
        stats = server.stats()
    # At most what was on its way when it was killed: eight requests of each of two processes.
    assert stats["paid_again"] <= 16
    ours, theirs = tables(home), tables(small_home)
    for name, rows in theirs.items():
        pd.testing.assert_frame_equal(asked_alike(ours[name]), asked_alike(rows), obj=name)
    usage = Warehouse(home / "warehouse.duckdb").load("chat_usage")
    assert usage["requests"].sum() == stats["paid_bodies"]
    cost = (stats["prompt_tokens"] + 4 * stats["completion_tokens"]) / 1e6
    assert usage["cost_usd"].sum() == pytest.approx(cost, rel=0.05)
    assert f"US$ {usage['cost_usd'].sum():,.4f} spent" in printed
    asked = usage.groupby("asset")["requests"].sum()
    assert set(asked.index) == {
        *("initial_personas", "initial_predictions", "persona_rounds", "control_predictions")
    }
    assert set(usage["domain"]) == {"book", "grocery"}
    metadata_stands_beside_the_run(home, usage)


def metadata_stands_beside_the_run(home: Path, usage: pd.DataFrame) -> None:
    with open_instance(home) as instance:
        from dagster import AssetKey

        recorded = {}
        for record in instance.fetch_materializations(AssetKey("initial_personas"), limit=10).records:
            metadata = record.asset_materialization.metadata  # type: ignore[union-attr]
            recorded[record.run_id, record.partition_key] = metadata["chat requests"].value
    rows = usage[usage["asset"] == "initial_personas"].set_index(["asking_run_id", "domain"])["requests"]
    assert recorded.items() <= rows.to_dict().items()
    assert len(recorded) == 2


def test_secrets_are_nowhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    calls = []
    with chat_server("--key-env", "SERVERS_KEY", SERVERS_KEY=SECRET) as server:
        variables = client_of(server, DEEPER_CHAT__KEY_ENV="PLANTED_KEY")
        # The server repeats the wrong key in its answer.
        failed = deeper(
            "--debug", "run", "--home", home, *SMALLEST, check=False, **variables, PLANTED_KEY=WRONG
        )
        assert failed.returncode == 1
        assert "status 401: Incorrect API key provided: $PLANTED_KEY" in failed.stderr
        calls += [failed, deeper("run", "--home", home, *SMALLEST, **variables, PLANTED_KEY=SECRET)]
        calls += [deeper("report", "--home", home, "--html", tmp_path / "report.html", **variables)]
        calls += [deeper("lineage", "mae_table", "--home", home, **variables)]
        calls += [deeper("journal", "--home", home, "export", tmp_path / "journal.jsonl", **variables)]
    texts = [text for done in calls for text in (done.stdout, done.stderr)]
    # DuckDB and SQLite may pack what they hold, so it is read, beside the bytes of every file.
    texts += [json.dumps(line) for line in Journal(home / "journal.sqlite").export()]
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as warehouse:
        for (name,) in warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            texts.append(warehouse.execute(f'SELECT * FROM "{name}"').df().to_csv())
    with open_instance(home) as instance:
        for run in instance.get_runs():
            texts += [str(event) for event in instance.all_logs(run.run_id)]
    everything = [text.encode() for text in texts]
    everything += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(everything) > 100
    for planted in (SECRET.encode(), WRONG.encode()):
        assert not [place for place, content in enumerate(everything) if planted in content]


def test_over_the_cap_nothing_is_asked_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with chat_server() as server:
        variables = client_of(server)
        poor = deeper(
            "run", "--home", tmp_path, *SMALLEST, check=False, **variables, DEEPER_MAX_COST_USD="0.05"
        )
        assert poor.returncode == 1
        assert "max_cost_usd 0.05 is reached" in poor.stderr
        assert sum(Journal(tmp_path / "journal.sqlite").committed_usd()) <= 0.05
        paid = server.stats()["paid_bodies"]
        assert paid > 0
        deeper("run", "--home", tmp_path, *SMALLEST, **variables, DEEPER_MAX_COST_USD="50")
        assert server.stats()["paid_again"] == 0
        assert server.stats()["paid_bodies"] > paid
