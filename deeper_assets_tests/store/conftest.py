from pathlib import Path

import pytest

from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.store.samples import SAMPLES


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home" / "warehouse.duckdb", lock_timeout=30)


@pytest.fixture(autouse=True)
def _samples_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, SAMPLES.name, SAMPLES)
