"""The UI and `deeper run` agree on what is stale: a real server and browser over a home that changes."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from selenium import webdriver

from deeper_assets.definitions import build_definitions
from deeper_assets.graph import Graph
from deeper_assets.instance import OUTDATED
from deeper_assets.method.prompts import BUILT_IN
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment
from deeper_assets.settings import load_settings
from deeper_assets_tests.command import environment
from deeper_assets_tests.end_to_end.dagster_ui import Person, ask, dagster, opened, wait_for

pytestmark = pytest.mark.slow

Partitions = set[tuple[str, str | None]]
"""Tables with their partition keys; None for a table without partitions."""

OF_ALL_DOMAINS: Partitions = {(table, None) for table in ("floors_table", "mae_table", "comparison_table")}
OF_METHODS = ("persona_rounds", "round_predictions", "round_errors")
SETTINGS = {
    **{"train_recipes": [], "evaluate": ["mine", "recipe"]},
    **{"synthetic_users": 24, "train_users": 2, "eval_users": 3},
}
COLUMNS = {"user": "user", "item": "item", "rating": "rating"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which two domains have been made: generated ratings and a file."""
    folder = tmp_path_factory.mktemp("stale") / "home"
    folder.mkdir()
    rows = [f"u{user},i{item},{1 + (user * item + user) % 5}" for user in range(20) for item in range(50)]
    (folder / "mine.csv").write_text("\n".join(["user,item,rating", *rows, ""]))
    write(folder)
    run(folder)
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with opened(home, variables(home)) as address:
        yield address


def test_a_finished_home_is_green_whatever_has_been_made_beside_it(
    server: str, home: Path, browser: webdriver.Chrome
) -> None:
    person = Person(browser, server)
    assert missing_in_the_ui(server) == stale_in_the_ui(server) == set()
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

    write(home)
    wait_for(home, lambda: stale_in_the_ui(server) == OF_ALL_DOMAINS)
    assert stale_for_a_run(home) == OF_ALL_DOMAINS
    run(home)


def test_the_ui_and_the_planner_agree_on_what_is_stale(
    server: str, home: Path, browser: webdriver.Chrome
) -> None:
    person = Person(browser, server)
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()

    # A setting: exactly the tables that list it, each of their partitions, before anything is made again.
    write(home, eval_users=4)
    wait_for(home, lambda: stale_in_the_ui(server) != set())
    windows: Partitions = {("rating_windows", "mine"), ("rating_windows", "recipe")}
    assert stale_in_the_ui(server) == stale_for_a_run(home) == windows
    assert unsynced(person, "rating_windows", "mine")
    person.picture("stale partition")
    assert not unsynced(person, "raw_ratings", "mine")
    assert not unsynced(person, "initial_personas", "mine")

    # Other rows: what is made directly from them, of this domain alone.
    chosen = ["--select", "rating_windows", "--partition", "mine"]
    dagster(variables(home), "asset", "materialize", "-m", "deeper_assets.definitions", *chosen)
    after_mine = stale_for_a_run(home)
    assert after_mine - windows == {
        *(("initial_personas", "mine"), ("initial_predictions", "mine"), ("floors_table", None)),
        *((table, f"mine|{method}") for table in OF_METHODS for method in PROMPT_METHODS),
    }
    assert windows - after_mine == {("rating_windows", "mine")}
    assert stale_in_the_ui(server) == after_mine
    assert unsynced(person, "floors_table")

    run(home)
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()
    assert not unsynced(person, "rating_windows", "mine")
    person.picture("fresh partition")


def test_a_setting_marks_the_partitions_that_it_concerns(
    server: str, home: Path, browser: webdriver.Chrome
) -> None:
    """Dagster has one code version a table; the sensor confirms the others, without a run."""
    person = Person(browser, server)
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()
    template = home / "slide_regen.txt"
    template.write_text(f"Take your time.\n{BUILT_IN['slide_regen']}")
    changed = {"eval_users": 4, "prompts": {"slide_regen": str(template)}}
    write(home, **changed)
    concerned = stale_for_a_run(home)
    assert {key for _, key in concerned} == {"mine|slide_regen", "recipe|slide_regen"}
    wait_for(home, lambda: stale_in_the_ui(server) == concerned)
    assert unsynced(person, "persona_rounds", "mine|slide_regen")
    assert not unsynced(person, "persona_rounds", "mine|full_regen")

    template.write_text(BUILT_IN["slide_regen"])  # as it was; the file is looked at, too
    wait_for(home, lambda: stale_in_the_ui(server) == set())


def test_a_changed_source_marks_its_domain(server: str, home: Path, browser: webdriver.Chrome) -> None:
    person = Person(browser, server)
    assert stale_in_the_ui(server) == stale_for_a_run(home) == set()
    ratings = home / "mine.csv"
    before = ratings.read_text()
    ratings.write_text(before.replace("u1,i7,4", "u1,i7,5"))
    assert stale_for_a_run(home) == {("raw_ratings", "mine")}
    wait_for(home, lambda: stale_in_the_ui(server) == {("raw_ratings", "mine")})
    assert unsynced(person, "raw_ratings", "mine")
    person.sees(OUTDATED)
    person.picture("changed source")
    assert not unsynced(person, "raw_ratings", "recipe")

    ratings.write_text(before)
    wait_for(home, lambda: stale_in_the_ui(server) == set())

    write(home, eval_users=4, seed=7)
    generated = {("raw_ratings", "recipe")}
    assert generated < stale_for_a_run(home)
    wait_for(home, lambda: stale_in_the_ui(server) == stale_for_a_run(home))


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
        )["assetNodeOrError"]["staleStatusByPartition"]
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
