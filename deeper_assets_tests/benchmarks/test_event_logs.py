"""The benchmark of logs of events cuts what it generates."""

from pathlib import Path

import pytest

from deeper_assets_tests.benchmarks.event_logs import FORMATS, cut, generated


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_has_the_same_events(format_: str, tmp_path: Path) -> None:
    accounts = cut(generated(format_, 3_000, tmp_path), tmp_path / "scratch")
    assert accounts.adds_up
    assert accounts.parts["read"][1] == 3_000
    assert accounts.parts["used"][0] == 100
    assert accounts.parts["rejected"] == (0, 0)
