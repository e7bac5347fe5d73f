"""`deeper ui`: Dagster's webserver and daemon for one home folder, for as long as the command runs.

`python -m deeper_assets.ui HOME PORT FILE…` is all that stays of the command while it waits: plain Python.
It has the webserver load the code location again when a file changes that settings were read from, so that
pages tell of the settings of now.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from urllib.request import ProxyHandler, Request, build_opener

from deeper_assets.engines.process_group import answers, ends_with_me, stop

WORKSPACE = "workspace.yaml"
"""File in the folder of Dagster's instance that names the code location, for `dagster dev -w`."""

LOCATION, MODULE = "deeper_assets", "deeper_assets.definitions"
"""Name of the code location, and what it is loaded from."""

# One event log file for all runs: with Dagster's default, a file a run, opening them took half of the time.
# No files of what steps print (they print nothing): Dagster starts two processes a step to watch them.
# The queue is looked at every second: most runs of a backfill take no longer than Dagster's five.
DAGSTER_YAML = """\
# The Dagster instance of this experiment; `dagster dev` shows it when DAGSTER_HOME names this folder.
telemetry:
  enabled: false
nux:
  enabled: false
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config:
    base_dir:
      env: DAGSTER_HOME
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
run_coordinator:
  module: dagster._core.run_coordinator.queued_run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 2
    dequeue_interval_seconds: 1
python_logs:
  managed_python_loggers:
    - deeper_assets.sources
  python_log_level: INFO
"""


WORKSPACE_YAML = f"""\
load_from:
  - python_module:
      module_name: {MODULE}
      location_name: {LOCATION}
"""

_FILES = """
import sys, pathlib
from deeper_assets.layers import settings_files
print(*settings_files(pathlib.Path(sys.argv[1])), sep="\\n")
"""
"""Run in a process of its own, which gives back the memory that reading settings takes."""

_RELOAD = f'mutation {{ reloadRepositoryLocation(repositoryLocationName: "{LOCATION}") {{ __typename }} }}'

USUAL_PORT = 3000
"""Dagster's own; another one is taken where it is not free."""


def main() -> int:
    """Serves the UI of a home that is there, until SIGINT or SIGTERM; the exit status.

    The files are those that its settings are read from.
    """
    home, port = Path(sys.argv[1]), int(sys.argv[2])
    files = [Path(name) for name in sys.argv[3:]]
    seen = {path: _time_of(path) for path in files}
    command = [sys.executable, "-W", "ignore:Function `dev_command`", "-m", "dagster", "dev"]
    command += ["-w", str(home / "dagster" / WORKSPACE), "-h", "127.0.0.1", "-p", str(port)]
    command += ["--log-level", "warning", "--code-server-log-level", "warning"]
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell may have SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(ends_with_me(command), stdin=subprocess.PIPE, start_new_session=True)
    try:
        while server.poll() is None and not answers(f"{address}/server_info"):
            time.sleep(0.2)
        if server.poll() is None:
            print(f"{address} shows {home}; Ctrl-C stops it", flush=True)
        with databases_open(home):
            while server.poll() is None:
                time.sleep(1)
                now = {path: _time_of(path) for path in seen}
                if now != seen and _reload(address):
                    # Times from before the reload: what is saved while it goes on is seen by the next look.
                    seen = {path: now.get(path, _time_of(path)) for path in _settings_files(home) or now}
        status = server.returncode
    except KeyboardInterrupt:
        return 0
    finally:
        stop(server)
    print(
        f"deeper: the UI has ended by itself (exit code {status}); its reasons stand above", file=sys.stderr
    )
    return 1


def instance_folder(home: Path) -> Path:
    """The folder of Dagster's instance, with its configuration, which is written where there is none."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("dagster.yaml", DAGSTER_YAML), (WORKSPACE, WORKSPACE_YAML)):
        if not (folder / name).exists():
            (folder / f"{name}.partial").write_text(text, encoding="utf-8")
            (folder / f"{name}.partial").replace(folder / name)
    return folder


@contextmanager
def databases_open(home: Path) -> Iterator[None]:
    """Keeps the SQLite files of Dagster's instance open, as far as they are there and can be opened.

    Dagster opens and closes one for every event, in every process. When nobody else has it open, SQLite then
    folds the whole log into the file and waits for the disk.
    """
    folder = home / "dagster"
    with ExitStack() as stack:
        for path in (*folder.glob("*.db"), *folder.glob("*/*.db")):
            with suppress(sqlite3.Error):  # whoever needs the file says what is wrong with it
                connection = stack.enter_context(closing(sqlite3.connect(path)))
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens its log, too
        yield


def _settings_files(home: Path) -> list[Path]:
    """Where the settings are read from; nothing while they cannot be read, which the page says."""
    command = [sys.executable, "-c", _FILES, str(home)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return [Path(line) for line in asked.stdout.splitlines()]


def _time_of(file: Path) -> int:
    """When it was changed; 0 where there is none."""
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return 0


def _reload(address: str) -> bool:
    """Whether the webserver has begun to load the code location again."""
    body = json.dumps({"query": _RELOAD}).encode()
    request = Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with suppress(OSError), build_opener(ProxyHandler({})).open(request, timeout=60):
        return True
    return False


def free_port(wanted: int | None) -> int | None:
    """The port that is wanted, or the usual one, or any; None where the wanted one is taken."""
    for port in [wanted] if wanted is not None else [USUAL_PORT, 0]:
        with socket() as tried, suppress(OSError):
            # A server that has just ended leaves its port waiting.
            tried.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
            return int(tried.getsockname()[1])
    return None


if __name__ == "__main__":
    sys.exit(main())
