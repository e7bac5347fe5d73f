"""What has come of a file so far, on the disk.

The bytes lie in `NAME.part`. `NAME.part.json` says of which version of the file they are, so that a later
process adds the rest of that version and of no other.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from deeper_assets.method.exceptions import DeeperError

SPARE = 50 * 10**6
"""Bytes of a disk that are left free."""


@dataclass(frozen=True)
class Version:
    """One state of a file at its server.

    Attributes:
        address: where it lies.
        validator: what tells it from other versions there; empty where nothing does.
        size: bytes; None where the server did not say.
    """

    address: str
    validator: str
    size: int | None


@dataclass(frozen=True)
class Part:
    """The bytes that have come of one file; they are opened to add to them."""

    path: Path
    out: FileIO

    @property
    def note(self) -> Path:
        """The file that says of which version they are."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def have(self) -> int:
        """How many they are."""
        return os.fstat(self.out.fileno()).st_size

    def version(self, address: str) -> Version | None:
        """The version of the file at `address` that they are of; None where that is not known."""
        try:
            version = Version(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.address == address else None

    def empty(self) -> None:
        """Drops them, and first what says of which version they are: a process may be killed in between."""
        self.note.unlink(missing_ok=True)
        self.out.truncate(0)

    def begin(self, version: Version) -> None:
        """Drops them; those that are added from now on are of `version`."""
        self.empty()
        new = self.note.with_name(f"{self.note.name}.new")
        new.write_text(json.dumps(asdict(version)), encoding="utf-8")
        new.replace(self.note)

    def add(self, block: bytes) -> None:
        """Adds bytes. They reach the system at once, so that the end of the process loses none."""
        rest = memoryview(block)
        while rest:
            rest = rest[self.out.write(rest) :]

    def finish(self, target: Path) -> None:
        """They are the file, whole: it gets its name."""
        os.fsync(self.out.fileno())
        self.path.replace(target)
        self.note.unlink(missing_ok=True)


@contextmanager
def held(target: Path) -> Iterator[Part]:
    """What has come of the file that is to be `target`; other processes are kept out.

    Raises:
        DeeperError: another process is at it.
    """
    path = target.with_name(f"{target.name}.part")
    with FileIO(path, "a") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeeperError(f"{target} is being downloaded by another process") from None
        if not path.exists() or not os.path.samestat(os.fstat(out.fileno()), path.stat()):
            raise DeeperError(f"{target} has just been downloaded by another process")
        part = Part(path, out)
        try:
            yield part
        finally:
            if part.have == 0:
                part.note.unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def refuse_a_full_disk(folder: Path, needed: int) -> None:
    """Raises a DeeperError where a folder's disk has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise DeeperError(
            f"{folder} has {free / 1e9:,.2f} GB free, and {(needed + SPARE) / 1e9:,.2f} GB are needed: make"
            " room, or name a folder on another disk"
        )
