"""Small real runs of the whole graph."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from selenium import webdriver

from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import SMALL, deeper


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a small run has been made. Tests read it and leave it as it is."""
    home = tmp_path_factory.mktemp("small") / "home"
    deeper("run", "--home", home, *SMALL)
    return home


@pytest.fixture
def tables() -> Callable[[Path], dict[str, pd.DataFrame]]:
    """Reads every result table of a home, without provenance."""

    def read(home: Path) -> dict[str, pd.DataFrame]:
        warehouse = Warehouse(home / "warehouse.duckdb")
        names = ["rating_windows", "persona_rounds", "round_predictions", "round_errors", "mae_table"]
        return {name: warehouse.load(name) for name in names}

    return read


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A real one without a window; tests that need it are skipped where there is none."""
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("no chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1500,1100",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()
