"""Benchmarks are commands of their own: they need no pytest."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# The clients of other projects (chat_clients/) live in environments of their own.
MODULES = sorted(
    path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__" and not path.stem.startswith("test_")
)
MODULES += ["chat_clients.with_deeper", "generated_files.__main__", "straightforward.ways"]


def test_benchmarks_are_imported_without_pytest() -> None:
    names = [f"{__package__}.{module}" for module in MODULES]
    code = "import sys; sys.modules['pytest'] = None\nfor name in sys.argv[1:]: __import__(name)"
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "chat_load" in MODULES
