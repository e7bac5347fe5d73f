"""Shared fixtures."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from deeper_assets_tests.training_graph import Made

REPOSITORY = Path(__file__).parent.parent

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("deeper", deadline=None)
hypothesis.settings.load_profile("deeper")


FAST = (
    *("method/", "sources/", "reports/", "checks/", "store/test_schema.py", "store/test_adapters.py"),
    *("test_packaging.py", "test_settings.py", "test_variables.py", "test_yaml_files.py", "test_secrets.py"),
)
"""Where the tests of the fast tier are: no processes, no training, no step of Dagster's."""

LONGER = ("method/test_candidates.py", "sources/test_published.py")
"""Files among them that take too long, and so do tests of all published data."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the fast tier."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent).as_posix()
        long = place in LONGER or "published" in getattr(item, "fixturenames", ())
        if place.startswith(FAST) and not long and item.get_closest_marker("slow") is None:
            item.add_marker("fast")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of whoever runs it."""
    for name in os.environ:
        if (name.startswith("DEEPER_") and not name.startswith("DEEPER_TEST_")) or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def published_data() -> Path:
    """Folder of the published files; tests that need it are skipped where it is not at hand."""
    given = os.environ.get("DEEPER_TEST_DATA")
    folder = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    if not (folder / "deeper").is_dir():
        pytest.skip(f"no published data at {folder}: set DEEPER_TEST_DATA to the folder that holds `deeper/`")
    return folder / "deeper"


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> "Made":
    """The training graph with one row a partition, all of it made. Tests read it and leave it as it is."""
    from deeper_assets_tests.training_graph import make_everything

    return make_everything(tmp_path_factory.mktemp("training"))
