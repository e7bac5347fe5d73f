"""Files, plain or gzip, in blocks of whole lines; a thread that writes such blocks where DuckDB reads them.

DuckDB unpacks gzip itself, but it does not number the blank lines that it skips, reads nothing of a file that
breaks off, and tells nothing of its progress. So every byte passes through a thread of ours, and a FIFO.
"""

import fcntl
import logging
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from isal import igzip_lib

from deeper_assets.method.exceptions import DeeperError, first_line

LOG = logging.getLogger(__name__)

BLOCK = 1 << 20
"""Bytes of a block, roughly."""

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
JSON_LINES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz")
PARQUET = (".parquet",)
KNOWN = (*CSV, *JSON_LINES, *PARQUET)
"""Endings of files that can be read."""

LONGEST_LINE = 15 << 20
"""Bytes of a line that are held, and up to a block more; without its end it is a broken one.

DuckDB takes 16 MB of a line of JSON, and 2 MB of a line of CSV.
"""

TELLS_EVERY = 5.0
"""Seconds between two lines about progress."""

_LOOKS_EVERY = 0.1
"""Seconds after which a thread that waits looks whether it is still needed."""


def is_packed(path: Path) -> bool:
    """Whether a file is gzip, as its name says; `.GZ` is said by some systems."""
    return path.suffix.lower() == ".gz"


@dataclass
class Blocks:
    """The content of a file in blocks of whole lines, as often as it is iterated over.

    A gzip file that breaks off, or is damaged, gives the whole lines before that.

    Attributes:
        path: the file; gzip where `is_packed`.
        tells: whether the log is told of progress.
        breaks_off: after the last block, why there are no more, where more were expected.

    Raises:
        OSError: the file cannot be read.
        DeeperError: nothing can be unpacked.
    """

    path: Path
    tells: bool = False
    breaks_off: str | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[bytes]:
        """The blocks; each ends in a line feed, but the last one of a file that does not."""
        self.breaks_off = None
        begun: list[bytes] = []  # the pieces of a line whose end has not come yet
        held = 0
        for block in self._content():
            if held >= LONGEST_LINE:
                block = block[end:] if (end := block.find(b"\n")) >= 0 else b""  # noqa: PLW2901 - what is held
            whole, line_feed, rest = block.rpartition(b"\n")
            if line_feed:
                yield b"".join((*begun, whole, line_feed))
                begun, held = [], 0
            begun.append(rest)
            held += len(rest)
        if held and self.breaks_off is None:
            yield b"".join(begun)

    def _content(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            progress = _Progress(self.path.name, os.fstat(file.fileno()).st_size)
            as_it_is = iter(lambda: file.read(BLOCK), b"")
            for block in self._unpacked(file) if is_packed(self.path) else as_it_is:
                if self.tells:
                    progress.tell(file.tell())
                yield block

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        begun = False
        try:
            for block in _gunzipped(file):
                begun = begun or bool(block)
                yield block
        except (EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc]  # in its stub, an instance
            if not begun:
                raise DeeperError(
                    f"{self.path} cannot be unpacked: it is no gzip file, or damaged from its start; if it "
                    f"is not packed, take {self.path.suffix} off its name"
                ) from error
            self.breaks_off = f"the file cannot be unpacked from here on: {first_line(error)}"


def _gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """The content of a gzip file, up to the very place where it breaks off."""
    data = file.read(BLOCK)
    while data:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            if member.needs_input and not data and not (data := file.read(BLOCK)):
                raise EOFError("it breaks off before its end")
            yield member.decompress(data, BLOCK)
            data = b""
        data = (member.unused_data or file.read(BLOCK)).lstrip(b"\0")  # which may fill the file up


@dataclass
class _Progress:
    """Tells the log how much of a file has been read, from time to time."""

    name: str
    size: int
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def tell(self, done: int) -> None:
        from tqdm import tqdm

        now = time.monotonic()
        if now - self.told < TELLS_EVERY or not done:
            return
        self.told = now
        left = (now - self.began) / done * (self.size - done)
        LOG.info(
            "%s: %s of %s read, about %s left",
            self.name,
            tqdm.format_sizeof(done, "B"),
            tqdm.format_sizeof(self.size, "B"),
            tqdm.format_interval(left),
        )


@contextmanager
def through_fifo(blocks: Iterable[bytes], folder: Path) -> Iterator[Path]:
    """A FIFO in `folder` that gives `blocks`, which a thread iterates over; to be read once, in the body.

    The thread ends with the body, whether the body has read everything, some, or nothing.

    Raises:
        Exception: what iterating over the blocks raised; the FIFO ended there.
    """
    fifo = folder / "stream.fifo"
    os.mkfifo(fifo)
    writer = _Writer(blocks, fifo)
    thread = threading.Thread(target=writer.write, name=f"writes {fifo}", daemon=True)
    thread.start()
    try:
        yield fifo
    finally:
        writer.stopped.set()
        thread.join()
        fifo.unlink()
        if writer.failure is not None:
            raise writer.failure


@dataclass
class _Writer:
    """Writes blocks to a FIFO; waits neither for a reader that never comes, nor for one that has left."""

    blocks: Iterable[bytes]
    fifo: Path
    stopped: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def write(self) -> None:
        """Writes until the blocks end, nobody reads any more, or `stopped` is set."""
        while (file := self._opened()) is None:
            if self.stopped.wait(_LOOKS_EVERY / 100):
                return
        try:
            for block in self.blocks:
                if not self._written(file, block):
                    break
        except Exception as error:  # noqa: BLE001 - raised again where the FIFO is read
            self.failure = error
        finally:
            os.close(file)
        # Whoever opens it once more finds an empty file, rather than waits for a writer for ever.
        while not self.stopped.wait(_LOOKS_EVERY):
            if (file := self._opened()) is not None:
                os.close(file)

    def _opened(self) -> int | None:
        """The FIFO's writing end, or None while nobody reads."""
        try:
            file = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None
        with suppress(OSError):  # a block at a time; others may have used up what there is
            fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, BLOCK)
        return file

    def _written(self, file: int, block: bytes) -> bool:
        """Whether all of a block was written, and somebody may want more."""
        room = select.poll()
        room.register(file, select.POLLOUT)
        rest = memoryview(block)
        while rest and not self.stopped.is_set():
            if room.poll(1000 * _LOOKS_EVERY):
                try:
                    rest = rest[os.write(file, rest) :]
                except BrokenPipeError:
                    return False
        return not rest
