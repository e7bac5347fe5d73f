"""Whether a file that came is whole, and the members of a zip that are needed, safely unpacked."""

import hashlib
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from isal import igzip, isal_zlib

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads.parts import refuse_a_full_disk
from deeper_assets.sources.downloads.transfer import DamagedError
from deeper_assets.sources.streams import BLOCK

LARGEST_MEMBER = 8 * 10**9
"""Bytes that an unpacked member may have; the largest that is known has a tenth of them."""

DENSEST = 50
"""Bytes that one byte of a zip may become. Ratings become five, and a bomb a thousand."""


def md5_in(text: str, address: str) -> str:
    """The checksum in a text of `md5sum` or of BSD's `md5`.

    Raises:
        DeeperError: there is none, or more than one.
    """
    given = re.findall(r"\b[0-9a-fA-F]{32}\b", text)
    if len(given) != 1:
        raise DeeperError(f"{address} gives no MD5 checksum; it begins {text[:40]!r}")
    return str(given[0]).lower()


def check_md5(path: Path, expected: str) -> None:
    """Raises a DamagedError where a file has another MD5 checksum."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != expected:
        raise DamagedError(f"its MD5 checksum is {digest}, and its publisher says {expected}")


def check_gzip(path: Path) -> None:
    """Raises a DamagedError where a file is no gzip, is cut off, or fails the checksum within it."""
    try:
        if path.stat().st_size == 0:
            raise EOFError("it is empty")
        with igzip.open(path) as file:  # type: ignore[no-untyped-call]
            while file.read(BLOCK):
                pass
    except (EOFError, isal_zlib.error, igzip.BadGzipFile) as error:  # type: ignore[misc]  # so its stub
        with path.open("rb") as file:
            raise DamagedError(f"it is no whole gzip file ({error}); it begins {file.read(20)!r}") from error


def check_zip(path: Path) -> None:
    """Raises a DamagedError where a file is no zip; its members have checksums, which unpacking looks at."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            raise DamagedError(f"it is no zip file; it begins {file.read(20)!r}")


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Unpacks these members of a zip, each to the path that its name says in the folder.

    Other members are not looked at. Each file is there whole in the end, or not at all.

    Args:
        archive: the zip.
        members: names, as this program knows them: never those that only the archive says.
        folder: where they go; folders within it are made.

    Raises:
        DeeperError: one is missing, damaged, larger than it may be, or no plain file; or the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            infos = {name: _member(packed, archive, name) for name in members}
            refuse_a_full_disk(folder, sum(info.file_size for info in infos.values()))
            for name, info in infos.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f"{target.name}.part")
                with packed.open(info) as source, part.open("wb") as out:
                    shutil.copyfileobj(source, out, BLOCK)
                part.replace(target)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DeeperError(f"{archive} is damaged ({error}): delete it, and fetch it again") from error


def _member(packed: zipfile.ZipFile, archive: Path, name: str) -> zipfile.ZipInfo:
    """What the archive says of a member, unless that cannot be."""
    named = [info for info in packed.infolist() if info.filename == name]
    if len(named) != 1:
        raise DeeperError(f"{archive} has {len(named)} members called {name}, not one")
    (info,) = named
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DeeperError(f"{archive}: {name} is a link, not a file")
    if info.file_size > min(LARGEST_MEMBER, DENSEST * max(info.compress_size, BLOCK)):
        raise DeeperError(
            f"{archive}: {name} says that its {info.compress_size:,} bytes become {info.file_size:,}: no"
            " table of ratings does that"
        )
    return info
