"""Who has the GPU of a home: those who sample from its vLLM server, together, or one process alone.

Locks on files say who, because the kernel takes them back however a process ends. Those who sample share
`lock`. A training holds it alone, and so does a process that loads a policy itself. Everybody takes `turn`
first and keeps it until `lock` is theirs: so whoever comes after a training that waits, waits behind it.

The server belongs to a process of its own, the keeper (see `server_keeper`), which holds the lock `keeper`.
"""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOCK, TURN, KEEPER, SERVER, LOG = "lock", "turn", "keeper", "server.json", "log"
"""Files of the folder: three locks, what the keeper tells of its server, and what both did."""

PAUSE = 0.1
"""Seconds between two looks at something that takes longer."""


@dataclass(frozen=True)
class KeptServer:
    """What a keeper (a process number) tells of its server, which may still be loading; `url` has /v1."""

    keeper: int
    url: str
    key: str
    options: Sequence[str]


@contextmanager
def opened(lock: Path) -> Iterator[int]:
    """A file to lock, as a descriptor. Closing it gives the lock back, unless another process has a copy."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked(lock: Path, how: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Holds a lock: alone and after waiting for it, unless `how` says something else."""
    with opened(lock) as descriptor:
        fcntl.flock(descriptor, how)
        yield descriptor


@contextmanager
def alone_on_gpu(folder: Path) -> Iterator[None]:
    """Waits until nobody samples, ends the server, and lets nobody begin meanwhile."""
    with opened(folder / LOCK) as descriptor:
        with locked(folder / TURN):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        end_server(folder)
        yield


def dismiss(folder: Path) -> None:
    """Ends the server, if there is one and nobody samples or waits for it."""
    at_once = fcntl.LOCK_EX | fcntl.LOCK_NB
    with suppress(BlockingIOError), locked(folder / TURN, at_once), locked(folder / LOCK, at_once):
        end_server(folder)


def kept_server(folder: Path) -> KeptServer | None:
    """The server that has a keeper. A keeper that has just begun is waited for, until it tells of it."""
    while _is_held(folder / KEEPER):
        with suppress(FileNotFoundError):
            return KeptServer(**json.loads((folder / SERVER).read_text(encoding="utf-8")))
        time.sleep(PAUSE)
    return None


def end_server(folder: Path) -> None:
    """Has the keeper end its server and leave, and waits for that. Only for who holds `lock` alone."""
    while (server := kept_server(folder)) is not None:
        with suppress(ProcessLookupError):
            os.kill(server.keeper, signal.SIGTERM)
        time.sleep(PAUSE)


def _is_held(lock: Path) -> bool:
    try:
        with locked(lock, fcntl.LOCK_SH | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True
