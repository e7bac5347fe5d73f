"""Fetches one small file from a local server, and looks at what is there afterwards."""

from pathlib import Path

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads.transfer import Patience, fetch
from deeper_assets_tests.sources.downloads.file_server import FileServer, Notes

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
OTHER = CONTENT[::-1]
SHORT = Patience(window=30, least=1, tries=3, pause=0, longest=5)
IMPATIENT = Patience(window=0.5, least=1000, tries=2, pause=0, longest=5)


def nothing_wrong(path: Path) -> None:
    """A check that every file passes."""


def fetched(server: FileServer, folder: Path, patience: Patience = SHORT, largest: int = 10**6) -> int:
    """Fetches `file.bin`; the bytes that came over the network."""
    notes = Notes()
    return fetch(server.address("file.bin"), folder / "file.bin", nothing_wrong, notes, patience, largest)


def contents(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(server: FileServer, folder: Path, patience: Patience = SHORT, largest: int = 10**6) -> str:
    """The message of a download that fails; the file is not there, nor is anything under its name."""
    with pytest.raises(DeeperError) as caught:
        fetched(server, folder, patience, largest)
    assert not (folder / "file.bin").exists()
    return str(caught.value)
