"""Whatever stands in a settings file, a variable or a template: it is taken, or refused by a DeeperError."""

import subprocess
import sys

import pytest

from deeper_assets_tests.command import environment
from deeper_assets_tests.hostile_texts import GIGABYTE, KINDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_text_leads_to_another_error_or_takes_a_gigabyte(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deeper_assets_tests.hostile_texts", kind],
        capture_output=True,
        text=True,
        env={name: text for name, text in environment().items() if not name.startswith("DEEPER_")},
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) < GIGABYTE
