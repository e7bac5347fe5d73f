"""Policies that fill a GPU are held by one process, the host, which is still there when a run has ended.

Dagster starts a process for every step, and a backfill a run for every partition: each of them would load the
policy again, and two at a time would not fit. So where policies fill a GPU, whoever samples asks the host of
the experiment. It loads what it is asked for, keeps it for the next, and leaves when nobody has come for a
while, when a training wants the memory, or after an error. It writes for one client at a time, in the order
in which they come; if a client dies, its host does too, for what it writes is for nobody then.

Who has the GPU holds the lock on a file: the host while it lives, else a training, which is given the host's.
Locks of the kernel's, because it takes them back however a process ends. `multiprocessing.managers` would
serve as well, but can neither leave by itself nor tell that a client is gone.
"""

import fcntl
import logging
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import NoReturn

from deeper_assets.engines.sampling.vllm_sampler import VllmSampler, unload
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.method.protocols import Decoding, Sample, Sampler

LOCK, ADDRESS, LOG = "lock", "address", "log"
"""Files of a host's folder: who has the GPU, where the host listens, and what it did."""

PAUSE = 0.2
"""Seconds between two looks at something that takes much longer."""

AT_FIRST = 10.0
"""Seconds that a host waits for whoever started it, and may have been killed meanwhile."""

YOURS, LEAVE = "it is your turn", "leave"

logger = logging.getLogger("deeper_assets.engines.sampling.policy_host")  # also where it is `__main__`


@dataclass(frozen=True)
class HostedSampler:
    """A policy that the host loads and writes with.

    Attributes:
        sampler: how it does that.
        folder: of the host.
        keep_loaded: seconds that the host stays when nobody comes.
    """

    sampler: Sampler
    folder: Path
    keep_loaded: float

    @property
    def name(self) -> str:
        """Identifies the policy."""
        return self.sampler.name

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it; see `Sampler`.

        Raises:
            DeeperError: the sampler could not, or the host was killed.
        """
        if not prompts:
            return []
        with _any_host(self.folder, self.keep_loaded) as host:
            try:
                host.send((self.sampler, prompts, seeds, decoding))
                written: list[list[Sample]] | DeeperError = host.recv()
            except (EOFError, OSError) as error:
                raise DeeperError(
                    f"the process that holds {self.name} was killed while it sampled; memory may have run"
                    f" out; what it said last is in {self.folder / LOG}"
                ) from error
        if isinstance(written, DeeperError):
            raise written
        return written


@contextmanager
def alone_on_gpu(folder: Path) -> Iterator[None]:
    """For a training: sends the host away once it has nothing to do, and lets no other begin meanwhile."""
    while (lock := _take_lock(folder)) is None and (lock := _lock_of_host(folder)) is None:
        time.sleep(PAUSE)
    try:
        yield
    finally:
        os.close(lock)


def dismiss(folder: Path) -> None:
    """Sends the host away, if there is one and it has nothing to do."""
    if (lock := _lock_of_host(folder, patience=1)) is not None:
        os.close(lock)


def _any_host(folder: Path, keep_loaded: float) -> Connection:
    """The host, waiting for what to do: the one that is there, else a new one, once the GPU is free."""
    started: subprocess.Popen[bytes] | None = None
    while True:
        if (host := _host(folder)) is not None:
            return host
        if started is not None and started.poll():
            raise DeeperError(f"the process that was to hold the policy ended; see {folder / LOG}")
        if (lock := _take_lock(folder)) is not None:
            try:
                started = _start(folder, keep_loaded, lock)
            finally:
                os.close(lock)  # the host has its own copy, which is the same lock
        time.sleep(PAUSE)


def _host(folder: Path, patience: float | None = None) -> Connection | None:
    """The host, once everybody who came before is served; None if there is none, or patience has run out."""
    try:
        host = Client((folder / ADDRESS).read_text(encoding="utf-8"), family="AF_UNIX")
    except OSError:
        return None
    with suppress(EOFError, OSError):  # it has left, or was killed
        if host.poll(patience) and host.recv() == YOURS:
            return host
    host.close()
    return None


def _lock_of_host(folder: Path, patience: float | None = None) -> int | None:
    """Sends the host away and has its lock, as of `_take_lock`, so that nobody comes in between.

    None if there is no host, it was killed, or patience has run out.
    """
    if (host := _host(folder, patience)) is None:
        return None
    with host, suppress(EOFError, OSError):
        host.send(LEAVE)
        lock = recv_handle(host)
        os.set_inheritable(lock, False)
        host.poll(None)  # until it has left
        return lock
    return None


def _take_lock(folder: Path) -> int | None:
    """The lock of the GPU, as a file descriptor that keeps it while it is open; None if it is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _start(folder: Path, keep_loaded: float, lock: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", __name__, str(folder), str(keep_loaded), str(lock)]
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,  # what ends a run is not for the host, which notices by itself
        )


# ----------------------------------------------------------------------------------------------- the host


def main() -> NoReturn:
    """The host: `python -m deeper_assets.engines.sampling.policy_host FOLDER KEEP_LOADED LOCK`."""
    folder, keep_loaded, lock = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(lock, False)
    logging.basicConfig(format=f"%(asctime)s {os.getpid()} %(message)s")
    logging.getLogger("deeper_assets").setLevel(logging.INFO)
    # The path of a socket has some hundred letters at most, and a home may lie deep.
    place = Path(tempfile.mkdtemp(prefix="deeper-"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "socket"))
        server.listen(socket.SOMAXCONN)
        _say_where(folder / ADDRESS, place / "socket")
        host = _Host(place, lock, folder / LOG)
        while True:
            patience = min(keep_loaded, AT_FIRST) if host.sampler is None else keep_loaded
            server.settimeout(patience)
            try:
                peer, _ = server.accept()
            except TimeoutError:
                host.leave(f"nobody came for {patience:g} s")
            with Connection(peer.detach()) as client, suppress(EOFError, OSError):  # a client may be gone
                host.serve(client)


def _say_where(file: Path, address: Path) -> None:
    with suppress(OSError):  # a host that was killed has left its socket behind
        left = Path(file.read_text(encoding="utf-8"))
        left.unlink()
        left.parent.rmdir()  # not with whatever else lies there: a file may say anything
    partial = file.with_suffix(".partial")
    partial.write_text(str(address), encoding="utf-8")
    partial.replace(file)


@dataclass
class _Host:
    """What the host has loaded.

    Attributes:
        place: folder of its socket.
        lock: of the GPU.
        log: where it is said what this process does.
        sampler: of whoever came last.
    """

    place: Path
    lock: int
    log: Path
    sampler: Sampler | None = None

    def serve(self, client: Connection) -> None:
        """Does what one client asks for."""
        client.send(YOURS)
        asked = client.recv()
        if asked == LEAVE:
            with suppress(OSError):  # whoever asked is gone
                send_handle(client, self.lock, 0)
            self.leave("it was sent away")
        answered = threading.Event()
        watch = threading.Thread(target=self._leave_with, args=(client, answered))
        watch.start()
        try:
            written: list[list[Sample]] | DeeperError = self._write(*asked)
        except DeeperError as error:
            written = error
        except Exception as error:  # whatever it is, the client is told
            logger.exception("cannot sample")
            written = DeeperError(f"{one_line(error)} (the traceback is in {self.log})")
        answered.set()
        with suppress(OSError):
            client.send(written)
        watch.join()
        if isinstance(written, DeeperError):  # which may leave memory taken, or a GPU that computes no more
            self.leave("something went wrong")

    def _write(
        self,
        sampler: Sampler,
        prompts: Sequence[str],
        seeds: Sequence[Sequence[int]],
        decoding: Decoding,
    ) -> list[list[Sample]]:
        if sampler != self.sampler:
            self.sampler = None
            if not isinstance(sampler, VllmSampler):  # which knows what can stay
                unload()
            self.sampler = sampler
        texts, started = sum(map(len, seeds)), time.monotonic()
        logger.info("samples %d texts of %d prompts from %s", texts, len(prompts), sampler.name)
        written = self.sampler.sample(prompts, seeds, decoding)
        logger.info("sampled %d texts in %.1f s", texts, time.monotonic() - started)
        return written

    def _leave_with(self, client: Connection, answered: threading.Event) -> None:
        """Ends this process when the client is gone before it is answered."""
        while not answered.is_set():
            with suppress(OSError):
                if client.poll(PAUSE) and not answered.is_set():
                    self.leave("its client is gone")

    def leave(self, why: str) -> NoReturn:
        """Ends this process at once, and those that hold parts of the policy on other GPUs."""
        logger.info("leaves: %s", why)
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        shutil.rmtree(self.place, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main()
