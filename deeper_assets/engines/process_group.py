"""Servers of others that end with the process that started them, however that ends, SIGKILL included."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from urllib.request import ProxyHandler, build_opener

GRACE = 20.0
"""Seconds that a process has to end by itself."""

_GROUP = 'exec 3<&0; (cat <&3; kill -KILL 0) >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'
"""A shell starts the command so. Beside it, in the same process group, waits what kills that group as soon as
nobody has the other end of their standard input any more."""


def ends_with_me(command: Sequence[str]) -> list[str]:
    """The command for `Popen`, with `stdin=PIPE` and `start_new_session=True`; it lives by that pipe."""
    return ["sh", "-c", _GROUP, "sh", *command]


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends such a process and its group: asked first, killed after `GRACE` seconds."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(url: str) -> bool:
    """Whether a server on this machine answers there; no proxy is asked."""
    direct = build_opener(ProxyHandler({}))
    with suppress(OSError), direct.open(url, timeout=5):
        return True
    return False
