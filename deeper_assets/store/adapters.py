"""A model's folder as rows of the warehouse, and the rows as a folder again.

The rows are the model. A folder made from them is a cache, and its files are checked before every use. Its
name is a hash of its contents, so runs that train the same adapter share one folder.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pandas as pd

from deeper_assets.method.exceptions import DeeperError

LOG = logging.getLogger(__name__)


def as_rows(folder: Path) -> pd.DataFrame:
    """Every file below a folder, hidden ones too.

    Returns:
        file (path inside the folder, its parts separated by /), content (bytes), size (bytes), sha256; in
        the order of file.

    Raises:
        DeeperError: there is no such folder, it cannot be read, it holds no file, or it holds what rows
            cannot express: an empty folder, a link or anything else that is no plain file.
    """
    if not folder.is_dir():
        raise DeeperError(f"{folder} is no folder, so there is no model in it")
    try:
        files, others = _below(folder)
        contents = [(folder / file).read_bytes() for file in files]
    except OSError as error:
        raise DeeperError(f"{folder} cannot be read: {error}") from error
    if others:
        raise DeeperError(
            f"{folder} cannot be stored: {others[0]} is {_kind(folder / others[0])}; only plain files can be"
        )
    if not files:
        raise DeeperError(f"{folder} holds no file, so there is no model in it")
    return pd.DataFrame(
        {
            "file": files,
            "content": pd.Series(contents, dtype=object),
            "size": [len(content) for content in contents],
            "sha256": [hashlib.sha256(content).hexdigest() for content in contents],
        }
    )


def identity(rows: pd.DataFrame) -> str:
    """A short hash (16 hexadecimal digits) of a model's files and what is in them, in any order of rows."""
    files = sorted(zip(rows["file"], rows["sha256"], strict=True))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def restore(rows: pd.DataFrame, cache: Path) -> Path:
    """The folder below `cache` that holds exactly these files. Where there is none, it is made.

    Every file of an existing folder is read and compared; a damaged folder is logged as a warning and made
    anew. Processes that restore the same model at once wait for the first of them.

    Args:
        rows: the files of one model, as `as_rows` gives them; further columns are ignored.
        cache: folder of the cache; it need not exist.

    Raises:
        DeeperError: there are no rows, or they are of several models, a file's bytes are not those of its
            sha256, it would lie outside of the folder, or the cache cannot be written.
    """
    _refuse_damaged(rows)
    folder = cache / identity(rows)
    try:
        with _alone(folder):
            if not os.path.lexists(folder):
                _make(folder, rows)
            elif damage := _damage(folder, rows):
                LOG.warning("%s is damaged: %s; it is made anew from the warehouse", folder, damage)
                _make(folder, rows)
    except OSError as error:
        raise DeeperError(
            f"cannot make the folder of a model below {cache}: {error}; make room on the disk, or see that"
            " you may write there, and run again (the model itself is in the warehouse)"
        ) from error
    return folder


def _refuse_damaged(rows: pd.DataFrame) -> None:
    if rows.empty:
        raise DeeperError("no file of this model is stored; materialize it first")
    if twice := rows["file"][rows["file"].duplicated()].tolist():
        raise DeeperError(f"file {twice[0]!r} comes twice; these are rows of more than one model")
    for file, content, sha256 in zip(rows["file"], rows["content"], rows["sha256"], strict=True):
        path = PurePosixPath(file)
        if str(path) != file or path.is_absolute() or ".." in path.parts or file in ("", "."):
            raise DeeperError(f"file {file!r} of a stored model does not lie inside the model's folder")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DeeperError(
                f"file {file!r} of a stored model is damaged: its bytes are not those of its sha256"
                f" {sha256}; materialize the model again"
            )


def _damage(folder: Path, rows: pd.DataFrame) -> str | None:
    """What is wrong with a folder that ought to hold these files; None if nothing is."""
    if folder.is_symlink() or not folder.is_dir():
        return "it is no folder"
    files, others = _below(folder)
    wanted = dict(zip(rows["file"], rows["sha256"], strict=True))
    if missing := [file for file in wanted if file not in files]:
        return f"{missing[0]} is missing"
    if surplus := [*others, *(file for file in files if file not in wanted)]:
        return f"{surplus[0]} does not belong there"
    for file, sha256 in wanted.items():
        with (folder / file).open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
                return f"{file} has other bytes"
    return None


def _make(folder: Path, rows: pd.DataFrame) -> None:
    """Replaces the folder, if there is one; other processes see all of the files or none."""
    partial, damaged = (folder.with_name(f"{folder.name}.{kind}") for kind in ("partial", "damaged"))
    for left_by_a_kill in (partial, damaged):
        _remove(left_by_a_kill)
    for file, content in zip(rows["file"], rows["content"], strict=True):
        path = partial / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if os.path.lexists(folder):
        folder.rename(damaged)
    partial.rename(folder)
    _remove(damaged)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a folder of the cache for this process; the lock goes with the process, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _below(folder: Path) -> tuple[list[str], list[str]]:
    """Paths inside a folder: the plain files, sorted, and whatever else rows could not hold."""
    files, others = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            others.append(name)
        elif path.is_file():
            files.append(name)
        elif not any(path.iterdir()):
            others.append(name)
    return sorted(files), others


def _kind(path: Path) -> str:
    if path.is_symlink():
        return "a link"
    return "an empty folder" if path.is_dir() else "a pipe, socket or device"
