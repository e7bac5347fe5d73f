"""`deeper ui` as a person uses it: a real server, a real browser, real clicks, and screenshots of them."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling.gpu import LOG, dismiss
from deeper_assets.graph import declared_assets
from deeper_assets.layers import load_settings
from deeper_assets.store.induction_tables import INDUCTION
from deeper_assets.store.ledger import Version
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import command, deeper, environment
from deeper_assets_tests.end_to_end.dagster_ui import PATIENCE, Person, ask, dagster, opened, wait_for
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy
from deeper_assets_tests.vllm_cpu import stand_in_variables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which everything has been made once, for two domains and five users."""
    folder = tmp_path_factory.mktemp("ui") / "home"
    deeper("run", "--home", folder, "--domains", "book,recipe", "--train-users", "2", "--eval-users", "3")
    return folder


@pytest.fixture(scope="module")
def variables(home: Path) -> dict[str, str]:
    """What the server and its jobs are told: a policy that vLLM samples, or a fake of vLLM."""
    vllm = os.environ.get("DEEPER_TEST_VLLM")
    policy = SHIPPED if vllm else save_tiny_policy(home.parent / "policy")
    sampled = {"DEEPER_POLICY": str(policy), "DEEPER_SAMPLER__ENGINE": "vllm", **stand_in_variables(vllm)}
    trained = {"DEEPER_TRAIN_RECIPES": '["balanced"]'}  # iteration 1 samples for the recipes that are trained
    return environment(home, DAGSTER_HOME=str(home / "dagster"), **{**sampled, **trained})


@pytest.fixture(scope="module")
def server(home: Path, variables: dict[str, str]) -> Iterator[str]:
    with opened(home, variables) as address:
        yield address


def test_materialize_a_partition_by_clicking_and_see_its_figures(
    browser: webdriver.Chrome, server: str, home: Path
) -> None:
    stored = Warehouse(home / "warehouse.duckdb")

    def versions() -> list[Version]:
        chosen = {"domain": "book", "method": "slide_regen"}
        return [version for version in stored.history("round_errors") if version.partition == chosen]

    assert len(versions()) == 1

    person = Person(browser, server)
    person.goes_to("/assets/round_errors")
    person.sees("ε(r+1|S_r) of every evaluation user", exactly=False)  # the docstring
    person.sees("ratings in the predicted window")  # what a column means
    person.picture("asset")

    person.clicks("Materialize…")
    for value in ("book", "slide_regen"):
        person.clicks("Select a partition or create one", first=True)
        person.clicks(value)
        person.clicks("Launch runs to materialize round_errors")  # closes the list
    person.picture("choosing a partition")
    person.clicks("Launch 1 run")

    wait_for(home, lambda: len(versions()) == 2)

    person.goes_to("/runs")
    person.sees("Success")
    person.picture("runs")
    person.goes_to("/assets/round_errors?view=partitions&partition=book%7Cslide_regen")
    person.sees("Materialized")
    person.sees("share unreadable")
    person.sees("MAE round 4")


def test_a_page_shows_a_persona_what_it_predicted_and_what_it_was_made_from(
    browser: webdriver.Chrome, server: str, home: Path
) -> None:
    stored, chosen = Warehouse(home / "warehouse.duckdb"), {"domain": ["book"], "method": ["slide_regen"]}
    last = stored.load("persona_rounds", chosen).sort_values(["user_id", "round"]).groupby("user_id").tail(1)
    person = Person(browser, server)
    person.goes_to("/assets/round_predictions?view=partitions&partition=book%7Cslide_regen")
    person.sees("Materialized")
    person.sees("chat.prompts.slide_regen")  # a setting, on the page itself
    person.clicks("[Show Markdown]")
    for persona in last["persona"]:
        first_sentence = persona.split(".")[0].replace("'", "")
        person.sees(first_sentence, exactly=False)
    person.sees("predicted")
    person.picture("personas")
    person.clicks("Close")
    link = next(link for link in browser.find_elements(By.CSS_SELECTOR, "td a") if link.text == "slide_regen")
    browser.execute_script("arguments[0].scrollIntoView()", link)
    person.picture("what a partition was made from")
    link.click()
    WebDriverWait(browser, PATIENCE).until(lambda page: "/assets/policies" in page.current_url)
    assert browser.current_url == f"{server}/assets/policies?view=partitions&partition=slide_regen"
    person.sees("Materialized")
    person.sees("no rows")  # of a method that only prompts


def test_tables_show_a_plot_and_draw_the_history_of_their_figures(
    browser: webdriver.Chrome, server: str
) -> None:
    person = Person(browser, server)
    person.goes_to("/assets/mae_table")
    person.sees("mean over users of ε(round+1|S_round), rating points")  # what a column means
    row = person.sees("MAE by round").find_element(By.XPATH, "./ancestor::tr")
    row.find_element(By.XPATH, ".//*[normalize-space(.)='[Show Markdown]'][not(*)]").click()
    plot = WebDriverWait(browser, PATIENCE).until(
        lambda page: next(iter(page.find_elements(By.CSS_SELECTOR, ".dagster-markdown img")), None)
    )
    WebDriverWait(browser, PATIENCE).until(lambda _: int(plot.get_attribute("naturalWidth") or 0) > 300)
    # The dialog fades in: until then the browser says that the picture is not displayed.
    WebDriverWait(browser, PATIENCE).until(lambda _: plot.is_displayed(), "the plot is not displayed")
    person.picture("plot of the error by round")
    person.clicks("Close")
    person.clicks("Plots")
    drawn = person.sees("slide_regen round 4")
    browser.execute_script("arguments[0].scrollIntoView()", drawn)
    person.picture("history of figures")


def test_the_graph_shows_its_groups(browser: webdriver.Chrome, server: str) -> None:
    person = Person(browser, server)
    browser.set_window_size(1500, 750)  # the graph is wide
    person.goes_to("/asset-groups")
    for group in dict.fromkeys(asset.group for asset in declared_assets() if not asset.induces):
        person.sees(group)
    time.sleep(3)  # the graph moves into place
    person.picture("groups")
    person.goes_to("/locations/deeper_assets/asset-groups/tables/lineage")
    person.sees("mae_table")
    time.sleep(3)  # the graph moves into place
    person.picture("tables")
    person.goes_to("/assets/mae_table")
    person.sees("mae_table")
    person.picture("mae_table")


def test_what_keeps_the_pages_true_is_on_and_what_can_cost_is_off(
    browser: webdriver.Chrome, server: str
) -> None:
    person = Person(browser, server)
    person.goes_to("/automation")
    on = {"re_evaluation": False, "source_files": False, "refresh_tables": True, "staleness": True}
    for name, expected in on.items():
        person.sees(name)
        row = f"//*[.//*[normalize-space(.)='{name}'] and count(.//input[@type='checkbox'])=2]"

        def as_expected(page: webdriver.Chrome, row: str = row, expected: bool = expected) -> bool:
            switch = page.find_elements(By.XPATH, f"{row}//input[@type='checkbox']")[
                -1
            ]  # one selects the row
            return switch.is_selected() == expected

        # The page draws itself again while it loads.
        ignored = (StaleElementReferenceException, IndexError)
        WebDriverWait(browser, PATIENCE, ignored_exceptions=ignored).until(as_expected, name)
    person.picture("automation")


@pytest.mark.timeout(1200)  # vLLM takes its time to start
def test_a_backfill_loads_the_policy_once_for_all_domains(
    server: str, home: Path, variables: dict[str, str]
) -> None:
    """Dagster starts a process for every step of every domain; all of them sample from one server."""
    stored, log = Warehouse(home / "warehouse.duckdb"), home / "gpu" / LOG
    dagster(variables, "job", "launch", "-j", "pretraining")
    wait_for(home, lambda: len(stored.current("base_policy")) == 1)
    chosen = ["--partitions", "book,recipe"]
    try:
        dagster(variables, "job", "backfill", "-j", "iteration_1", *chosen, "--noprompt")
        wait_for(home, lambda: len(stored.current("rewards_1")) == 2, 3 * PATIENCE)
        assert log.read_text().count("starts vLLM") == 1
        assert log.read_text().count("vLLM answers") == 1
    finally:
        dismiss(home / "gpu")
    candidates = stored.load("candidates_1").groupby("domain")["copies"].sum()
    assert candidates.to_dict() == dict.fromkeys(["book", "recipe"], 2 * load_settings(home).candidates)


def test_a_backfill_is_shown(browser: webdriver.Chrome, server: str) -> None:
    person = Person(browser, server)
    person.goes_to("/runs")
    person.sees("2 partitions", exactly=False)
    person.picture("backfill")


def test_the_ui_makes_its_home_and_ends_with_the_command(tmp_path: Path) -> None:
    """Also where the command is killed."""
    home = tmp_path / "new"
    process = subprocess.Popen(
        command("ui", "--home", home),
        env=environment(DEEPER_TRAIN_RECIPES='["balanced"]'),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split(" ")[0]
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4
    assert len(ask(address, "{ assetNodes { id } }")["assetNodes"]) == len(TABLES) - len(INDUCTION)
    process.kill()
    assert not psutil.wait_procs(children, timeout=30)[1]
