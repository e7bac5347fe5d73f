"""A folder on a read-only mount, for one command: permissions do not stop root."""

import subprocess
from pathlib import Path

import pytest

_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def beside_read_only(folder: Path, command: list[str]) -> list[str]:
    """The command, started where `folder` is on a read-only mount; skips where no mount can be made."""
    started = ["unshare", "--mount", "--map-root-user", "sh", "-c", _MOUNT, str(folder)]
    try:
        tried = subprocess.run([*started, "touch", str(folder / "x")], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if b"Read-only file system" not in tried.stderr:
        pytest.skip(f"no read-only mount can be made here: {tried.stderr.decode().strip()}")
    return [*started, *command]
