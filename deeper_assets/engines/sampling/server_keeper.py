"""The keeper: a small process that starts a home's vLLM server, watches it, and ends it.

Processes that sample come and go, since Dagster starts one for every step, and the server stays for the next.
So its parent is none of them, but the keeper. It starts the server once more if that dies after it has
answered. It ends the server and leaves when nobody has sampled for a while, when a training wants the GPU,
and when its own parent has ended or was killed: the `deeper run` that had it started. If the keeper is
killed, the server's processes are killed with it.
"""

import fcntl
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from socket import socket
from typing import NoReturn

import psutil

from deeper_assets.engines.process_group import answers, ends_with_me, stop
from deeper_assets.engines.sampling.gpu import LOCK, SERVER, KeptServer

PARENT = "SAMPLING_PARENT"
"""Environment variable with the number of the process that a server ends with; unset in the UI."""

MODULE = "vllm.entrypoints.openai.api_server"
"""vLLM's server. Its command, `vllm serve`, does not run in every build of vLLM (that for CPUs)."""

PAUSE = 0.5
"""Seconds between two looks at the server and at who needs it."""

logger = logging.getLogger("keeper")


class _Leave(BaseException):
    """The keeper is to end its server and go; the message is the reason.

    No Exception: a signal may come while something is logged, and logging swallows those.
    """


def main() -> None:
    """`python -m deeper_assets.engines.sampling.server_keeper FOLDER KEEP_LOADED PARENT LOCK OPTION…`.

    PARENT is 0 for none; LOCK is the descriptor that holds the keeper's lock.
    """
    folder, keep_loaded = Path(sys.argv[1]), float(sys.argv[2])
    parent, lock = map(int, sys.argv[3:5])
    logging.basicConfig(format=f"%(asctime)s keeper {os.getpid()} %(message)s", level=logging.INFO)
    signal.signal(signal.SIGTERM, _leave)
    os.set_inheritable(lock, False)
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = KeptServer(os.getpid(), f"http://127.0.0.1:{port}/v1", secrets.token_hex(), sys.argv[5:])
    partial = folder / f"{SERVER}.partial"
    partial.touch(mode=0o600)  # it holds the key
    partial.write_text(json.dumps(asdict(server)), encoding="utf-8")
    partial.replace(folder / SERVER)
    try:
        needed_by = psutil.Process(parent) if parent else None
        for _ in range(2):
            answered = _run(server, port, lambda: _check_need(folder / LOCK, keep_loaded, needed_by))
            if not answered:  # it would die of the same again
                break
    except _Leave as reason:
        logger.info("leaves: %s", reason)
    finally:
        # Before the GPU's lock, which ends with this process: who gets that is to see that nothing is kept.
        os.close(lock)


def _leave(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Leave("it was sent away")


def _run(server: KeptServer, port: int, check_need: Callable[[], None]) -> bool:
    """Starts the server, waits until it dies, and says whether it had answered before.

    Raises:
        _Leave: it is to be ended, and has been.
    """
    command = [sys.executable, "-m", MODULE, "--host", "127.0.0.1", "--port", str(port), *server.options]
    own = {"VLLM_API_KEY": server.key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}
    logger.info("starts vLLM: %s", " ".join(server.options))
    process = subprocess.Popen(
        ends_with_me(command), stdin=subprocess.PIPE, env={**os.environ, **own}, start_new_session=True
    )
    answered = False
    try:
        while process.poll() is None:
            if not answered and (answered := answers(f"http://127.0.0.1:{port}/health")):
                logger.info("vLLM answers")
            check_need()
            time.sleep(PAUSE)
    finally:
        stop(process)
    logger.info("vLLM has died (exit code %s)", process.returncode)
    return answered


def _check_need(lock: Path, keep_loaded: float, parent: psutil.Process | None) -> None:
    """Raises `_Leave` if the parent has ended, or nobody came for `keep_loaded` seconds.

    Those who sample share the lock, and touch it when they begin and end.
    """
    if parent is not None and not _lives(parent):
        reason = "its parent has ended"
    elif time.time() - lock.stat().st_mtime > keep_loaded:
        reason = f"nobody came for {keep_loaded:g} s"
    else:
        return
    # Left open: it is held until this process has ended, so that nobody comes in between.
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # somebody samples
        os.utime(descriptor)
        os.close(descriptor)
    else:
        raise _Leave(reason)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
