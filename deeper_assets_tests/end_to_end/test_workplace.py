"""A walk through the UI over one home, from nothing made to a source that is gone: each test goes on where
the one before it has ended. At every step, the UI and `deeper run` agree on what is stale."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from selenium import webdriver

from deeper_assets.assets.histories import HISTORIES
from deeper_assets.definitions import build_definitions
from deeper_assets.graph import Graph
from deeper_assets.instance import OUTDATED
from deeper_assets.layers import load_settings
from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.prompts import BUILT_IN
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import environment
from deeper_assets_tests.end_to_end.dagster_ui import Person, ask, dagster, messages, opened, runs, wait_for

pytestmark = pytest.mark.slow

Partitions = set[tuple[str, str | None]]
"""Tables with their partition keys; None for a table without partitions."""

OF_ALL_DOMAINS: Partitions = {(table, None) for table in ("floors_table", "mae_table", "comparison_table")}
OF_METHODS = ("persona_rounds", "round_predictions", "round_errors")
OF_CONTROLS = ("control_predictions", "control_errors")
SETTINGS = {
    **{"train_recipes": [], "evaluate": ["mine", "recipe"]},
    **{"synthetic_users": 24, "train_users": 2, "eval_users": 3},
}
COLUMNS = {"user": "user", "item": "item", "rating": "rating"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with settings and a file of ratings, in which nothing has been made."""
    folder = tmp_path_factory.mktemp("workplace") / "home"
    folder.mkdir()
    rows = [f"u{user},i{item},{1 + (user * item + user) % 5}" for user in range(20) for item in range(50)]
    (folder / "mine.csv").write_text("\n".join(["user,item,rating", *rows, ""]))
    write(folder)
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with opened(home, variables(home)) as address:
        yield address


@pytest.fixture
def person(browser: webdriver.Chrome, server: str) -> Person:
    return Person(browser, server)


def test_a_click_makes_everything_in_a_fresh_home(person: Person, server: str, home: Path) -> None:
    assert stale_in_the_ui(server) == set()  # what is missing is not called stale
    assert "mae_table" in missing_in_the_ui(server)
    launch(person, home)
    assert statuses(server, "materialize_stale") == ["SUCCESS"]
    assert missing_in_the_ui(server) == stale_in_the_ui(server) == stale_for_a_run(home) == set()
    for job, count in (
        ("personas", 2),
        ("methods", 4),
        ("evaluation", 8),
        ("controls", 8),
        ("ceilings", 2),
        ("tables", 1),
    ):
        assert statuses(server, job) == ["SUCCESS"] * count
    assert ticks(server) == []  # nothing is stale, so the schedule asks for nothing
    person.goes_to("/overview/activity/timeline")
    for job in ("personas", "evaluation", "tables", "materialize_stale"):
        person.sees(job)
    person.picture("timeline")


def test_a_run_of_the_command_can_be_executed_again(person: Person, server: str, home: Path) -> None:
    (first,) = [run["id"] for run in runs(server) if run["jobName"] == "tables"]
    person.goes_to(f"/runs/{first}")
    person.clicks("Re-execute all (*)")
    wait_for(home, lambda: statuses(server, "tables", of=first) == ["SUCCESS"])
    assert stale_in_the_ui(server) == set()  # the same rows


def test_a_finished_home_is_green_whatever_has_been_made_beside_it(
    person: Person, server: str, home: Path
) -> None:
    write(home, evaluate=["mine"])
    wait_for(home, lambda: stale_in_the_ui(server) == OF_ALL_DOMAINS)
    assert stale_for_a_run(home) == OF_ALL_DOMAINS
    assert missing_in_the_ui(server) == set()
    run(home)
    assert missing_in_the_ui(server) == stale_in_the_ui(server) == stale_for_a_run(home) == set()
    # Partitions that were made are no longer offered, and their events are still in the log.
    person.goes_to("/assets/persona_rounds?view=partitions")
    person.sees("4 Partitions Selected")
    person.sees("Missing (0)")
    person.picture("green")


def test_missing_domains_are_backfilled_with_a_click(person: Person, server: str, home: Path) -> None:
    write(home, evaluate=["mine", "recipe", "grocery", "clothing"])
    wait_for(home, lambda: "raw_ratings" in missing_in_the_ui(server))
    person.goes_to("/locations/deeper_assets/jobs/personas")
    person.clicks("Materialize all…")
    person.clicks("Missing")
    person.sees("2 partitions")
    person.picture("backfill")
    person.clicks("Launch backfill")
    stored = Warehouse(home / "warehouse.duckdb")
    wait_for(home, lambda: len(stored.current("initial_predictions")) == 4)
    domains = {version.partition["domain"] for version in stored.current("initial_predictions")}
    assert domains == {"mine", "recipe", "grocery", "clothing"}

    write(home)
    wait_for(home, lambda: stale_in_the_ui(server) == OF_ALL_DOMAINS)
    run(home)


def test_a_click_makes_exactly_what_is_stale(person: Person, server: str, home: Path) -> None:
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()

    # A setting: exactly the tables that list it, each of their partitions, before anything is made again.
    write(home, eval_users=4)
    wait_for(home, lambda: stale_in_the_ui(server) != set())
    mine: Partitions = {(table, "mine") for table in HISTORIES}
    histories = mine | {(table, "recipe") for table in HISTORIES}
    assert stale_in_the_ui(server) == stale_for_a_run(home) == histories
    assert unsynced(person, "rating_windows", "mine")
    person.picture("stale partition")
    assert not unsynced(person, "initial_personas", "mine")

    # Other rows: what is made directly from them, of this domain alone.
    chosen = ["--select", ",".join(HISTORIES), "--partition", "mine"]
    dagster(variables(home), "asset", "materialize", "-m", "deeper_assets.definitions", *chosen)
    after_mine = stale_for_a_run(home)
    assert after_mine - histories == {
        *(("initial_personas", "mine"), ("initial_predictions", "mine"), ("ceiling_errors", "mine")),
        *((table, None) for table in ("floors_table", "mae_table", "comparison_table")),
        *((table, f"mine|{method}") for table in OF_METHODS for method in PROMPT_METHODS),
        *((table, f"{control}|mine") for table in OF_CONTROLS for control in CONTROLS),
    }
    assert histories - after_mine == mine
    assert stale_in_the_ui(server) == after_mine
    assert unsynced(person, "floors_table")

    made = last_version(home)
    launch(person, home)
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()
    remade = {table for table, _ in made_after(home, made)}
    assert not remade & {"policies", "chat_usage"}
    assert after_mine <= made_after(home, made)
    assert not unsynced(person, "rating_windows", "mine")
    person.picture("fresh partition")


def test_the_schedule_asks_for_the_partitions_that_a_setting_concerns(
    person: Person, server: str, home: Path
) -> None:
    """Dagster has one code version a table; the sensor confirms the others, without a run."""
    template = home / "slide_regen.txt"
    template.write_text(f"Take your time.\n{BUILT_IN['slide_regen']}")
    write(home, eval_users=4, prompts={"slide_regen": str(template)})
    concerned = stale_for_a_run(home)
    assert {key for _, key in concerned} == {"mine|slide_regen", "recipe|slide_regen"}
    wait_for(home, lambda: stale_in_the_ui(server) == concerned)
    assert unsynced(person, "persona_rounds", "mine|slide_regen")
    assert not unsynced(person, "persona_rounds", "mine|full_regen")

    assert sorted(ticks(server)) == ["mine|slide_regen", "recipe|slide_regen"]
    person.goes_to("/locations/deeper_assets/schedules/re_evaluation")
    person.clicks("Preview tick result")
    person.clicks("Continue")
    person.sees("2 run requests")
    of_rows = "//tr[.//*[normalize-space(.)='evaluation']]//button"
    person.browser.find_elements("xpath", of_rows)[-1].click()  # the braces
    person.sees("partition: mine|slide_regen")
    person.picture("preview of a tick")

    template.write_text(BUILT_IN["slide_regen"])  # as it was; the file is looked at, too
    wait_for(home, lambda: stale_in_the_ui(server) == set())
    assert ticks(server) == []


def test_a_changed_source_marks_its_domain(person: Person, server: str, home: Path) -> None:
    ratings = home / "mine.csv"
    before = ratings.read_text()
    ratings.write_text(before.replace("u1,i7,4", "u1,i7,5"))
    mine: Partitions = {(table, "mine") for table in HISTORIES}
    assert stale_for_a_run(home) == mine
    wait_for(home, lambda: stale_in_the_ui(server) == mine)
    assert unsynced(person, "raw_ratings", "mine")
    person.sees(OUTDATED)
    person.picture("changed source")
    assert not unsynced(person, "raw_ratings", "recipe")

    ratings.write_text(before)
    wait_for(home, lambda: stale_in_the_ui(server) == set())


def test_a_source_that_is_gone_is_red_with_its_message(person: Person, server: str, home: Path) -> None:
    ratings = home / "mine.csv"
    gone = ratings.rename(home / "away.csv")
    launch(person, home)
    gone.rename(ratings)
    assert statuses(server, "materialize_stale")[0] == "FAILURE"
    (failed,) = [
        one["id"] for one in runs(server) if (one["jobName"], one["status"]) == ("personas", "FAILURE")
    ]
    assert "mine.csv" in messages(server, failed)
    person.goes_to("/assets/raw_ratings?view=partitions&partition=mine")
    person.sees("failed, and did not materialize this asset", exactly=False)
    person.picture("failed source")


def test_what_was_terminated_holds_up_nothing(person: Person, server: str, home: Path) -> None:
    write(home, eval_users=5)
    click_launch(person)
    wait_for(home, lambda: "STARTED" in statuses(server, "personas"))
    latest = next(run for run in runs(server) if run["jobName"] == "materialize_stale")
    ask(server, "mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=latest["id"])
    ended = {"SUCCESS", "FAILURE", "CANCELED"}
    wait_for(home, lambda: {run["status"] for run in runs(server)} <= ended)
    assert statuses(server, "materialize_stale")[0] != "SUCCESS"
    launch(person, home)
    assert statuses(server, "materialize_stale")[0] == "SUCCESS"
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()


def launch(person: Person, home: Path) -> None:
    """Launches `materialize_stale` on its page, and waits for its end."""
    before = len(statuses(person.server, "materialize_stale"))
    click_launch(person)

    def ended() -> bool:
        now = statuses(person.server, "materialize_stale")
        return len(now) > before and now[0] in ("SUCCESS", "FAILURE")

    wait_for(home, ended)


def click_launch(person: Person) -> None:
    person.goes_to("/locations/deeper_assets/jobs/materialize_stale/playground")
    while "/runs/" not in person.browser.current_url:  # the button does nothing until the page is ready
        person.clicks("Launch Run")
        time.sleep(3)


def statuses(server: str, job: str, of: str | None = None) -> list[str]:
    """Of a job's runs, the latest first; of those alone that executed a run again."""
    return [
        run["status"]
        for run in runs(server)
        if run["jobName"] == job and (of is None or run["parentRunId"] == of)
    ]


def ticks(server: str) -> list[str]:
    """What a tick of the schedule would ask for, as its preview shows it."""
    data = ask(
        server,
        "mutation($which: ScheduleSelector!) { scheduleDryRun(selectorData: $which, timestamp: 1767672900) {"
        " ... on DryRunInstigationTick {"
        " evaluationResult { error { message } runRequests { tags { key value } } } } } }",
        which={
            "repositoryLocationName": "deeper_assets",
            "repositoryName": "__repository__",
            "scheduleName": "re_evaluation",
        },
    )
    result = data["scheduleDryRun"]["evaluationResult"]
    assert result["error"] is None
    tags = [{tag["key"]: tag["value"] for tag in request["tags"]} for request in result["runRequests"]]
    return [one["dagster/partition"] for one in tags]


def last_version(home: Path) -> int:
    return max(version.version for version in Warehouse(home / "warehouse.duckdb").current())


def made_after(home: Path, version: int) -> Partitions:
    """What has been made since a version of the ledger."""
    return {
        (one.table, "|".join(one.partition[name] for name in sorted(one.partition)) or None)
        for one in Warehouse(home / "warehouse.duckdb").current()
        if one.version > version
    }


def variables(home: Path) -> dict[str, str]:
    """None but where the home is: settings stand in its file."""
    kept = environment(home, DAGSTER_HOME=str(home / "dagster"))
    del kept["DEEPER_SYNTHETIC_USERS"], kept["DEEPER_TRAIN_RECIPES"]
    return kept


def write(home: Path, **changed: object) -> None:
    scale = {"lowest": 1, "highest": 5, "step": 1}
    mine = {"item_type": "thing", "scale": scale, "file": str(home / "mine.csv"), "columns": COLUMNS}
    (home / "settings.yaml").write_text(yaml.safe_dump({**SETTINGS, "domains": {"mine": mine}, **changed}))


def run(home: Path) -> None:
    call = [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(home)]
    done = subprocess.run(call, env=variables(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def unsynced(person: Person, table: str, key: str = "") -> bool:
    """Whether the page of a partition, or of a table without any, calls it unsynced."""
    person.goes_to(f"/assets/{table}" + (f"?view=partitions&partition={quote(key)}" if key else ""))
    person.sees("Materialized" if key else table, exactly=False)
    time.sleep(2)  # the page asks for the state after the rest
    return bool(person.browser.find_elements("xpath", "//*[contains(text(), 'Unsynced')]"))


def missing_in_the_ui(server: str) -> set[str]:
    """Tables of which something is offered that has not been made, by the counts on their pages."""
    counts = "partitionStats { numMaterialized numPartitions } assetMaterializations(limit: 1) { runId }"
    nodes = ask(server, f"{{ assetNodes {{ assetKey {{ path }} {counts} }} }}")["assetNodes"]
    missing = set()
    for node in nodes:
        stats = node["partitionStats"]
        made = stats["numMaterialized"] == stats["numPartitions"] if stats else node["assetMaterializations"]
        missing |= set() if made else {node["assetKey"]["path"][-1]}
    return missing


def stale_in_the_ui(server: str) -> Partitions:
    """Every partition that its page would call unsynced."""
    nodes = ask(server, "{ assetNodes { assetKey { path } partitionKeys staleStatus } }")["assetNodes"]
    stale: Partitions = set()
    for node in nodes:
        table, keys = node["assetKey"]["path"][-1], node["partitionKeys"]
        if not keys:
            stale |= {(table, None)} if node["staleStatus"] == "STALE" else set()
            continue
        statuses = ask(
            server,
            "query($key: AssetKeyInput!, $keys: [String!]!) { assetNodeOrError(assetKey: $key) {"
            " ... on AssetNode { staleStatusByPartition(partitions: $keys) } } }",
            key={"path": node["assetKey"]["path"]},
            keys=keys,
        )["assetNodeOrError"].get("staleStatusByPartition")
        if statuses is None:
            return {(f"{table} has gone while this was asked", None)}
        stale |= {(table, key) for key, status in zip(keys, statuses, strict=True) if status == "STALE"}
    return stale


def stale_for_a_run(home: Path) -> Partitions:
    """Every stored partition that `deeper run` would make again, each asked for by itself."""
    experiment = Experiment(home, load_settings(home))
    planner = Planner(Graph.of(experiment), build_definitions(experiment))
    stored = planner.stored()
    return {
        (table, key)
        for table in planner.order
        for key in planner.made(table, stored)
        if planner.stale([table], key, stored)
    }
