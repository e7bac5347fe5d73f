"""`deeper ui`: Dagster's webserver and daemon for one home folder, for as long as the command runs.

`python -m deeper_assets.ui HOME PORT` is all that stays of the command while it waits: the standard library.
"""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket

from deeper_assets.engines.process_group import answers, ends_with_me, stop

WORKSPACE = "workspace.yaml"
"""File in the folder of Dagster's instance that names the code location, for `dagster dev -w`."""

USUAL_PORT = 3000
"""Dagster's own; another one is taken where it is not free."""


def main() -> int:
    """Serves the UI of a home that is there, until SIGINT or SIGTERM; the exit status."""
    home, port = Path(sys.argv[1]), int(sys.argv[2])
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
        status = server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(server)
    print(
        f"deeper: the UI has ended by itself (exit code {status}); its reasons stand above", file=sys.stderr
    )
    return 1


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
