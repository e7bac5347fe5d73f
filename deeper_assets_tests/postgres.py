"""A PostgreSQL of our own, for the time of a test."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def own_postgres() -> Iterator[str]:
    """Its connection string; the test is skipped where PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(programs[-1]) if programs else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="deeper-postgres-"))
    run_as: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        run_as = {"user": "nobody", "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, programs_folder = folder / "data", Path(initdb).parent
    word = folder / "password"
    word.write_text("opensesame")
    word.chmod(0o644)
    try:
        ask = [
            initdb,
            "-D",
            str(data),
            "-U",
            "deeper",
            "--auth=scram-sha-256",
            "--pwfile",
            str(word),
            "--no-sync",
        ]
        subprocess.run(ask, check=True, capture_output=True, cwd=folder, **run_as)
        ask = [
            str(programs_folder / "postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            str(folder),
        ]
        with subprocess.Popen(
            ask, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, **run_as
        ) as server:
            try:
                assert server.stdout is not None
                for line in server.stdout:
                    if b"ready to accept connections" in line:
                        break
                yield f"postgresql://deeper:opensesame@127.0.0.1:{port}/postgres"
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
