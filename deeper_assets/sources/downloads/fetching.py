"""A data set, fetched from its publisher into a folder: every file checked, and unpacked where it is a zip.

No library does this. pooch, cached-path and parfive begin a broken download anew. robust-downloader and
huggingface_hub's `http_get` add the rest of one version to the start of another. pypdl compares ETags alone,
and in a request of its own. None of them gets past a 416, a trickle or an endless body.
"""

from pathlib import Path

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads.archives import check_gzip, check_md5, check_zip, md5_in, unpack
from deeper_assets.sources.downloads.publishers import Dataset, RemoteFile
from deeper_assets.sources.downloads.transfer import PATIENCE, Patience, Watcher, fetch, fetch_text


def download(dataset: Dataset, folder: Path, watcher: Watcher, patience: Patience = PATIENCE) -> list[Path]:
    """Fetches what is missing of a data set.

    Args:
        dataset: what is fetched.
        folder: where it goes; it is made where it is not there.
        watcher: is told how far it is.
        patience: with the server.

    Returns:
        The paths of its files.

    Raises:
        DeeperError: a file could not be had; the same call goes on from there.
    """
    if folder.exists() and not folder.is_dir():
        raise DeeperError(f"{folder} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file in dataset.files:
        if all((folder / name).exists() for name in file.kept):
            watcher.told(f"already there, and not fetched again: {', '.join(file.kept)}")
        else:
            _fetch_one(file, folder, watcher, patience)
    return [folder / name for file in dataset.files for name in file.kept]


def _fetch_one(file: RemoteFile, folder: Path, watcher: Watcher, patience: Patience) -> None:
    md5 = _published_md5(file, watcher, patience)

    def check(path: Path) -> None:
        watcher.told(f"checking {file.name}")
        if file.members:
            check_zip(path)
        elif file.name.endswith(".gz"):
            check_gzip(path)
        if md5 is not None:
            check_md5(path, md5)

    target = folder / file.name
    fetch(file.address, target, check, watcher, patience)
    if file.members:
        watcher.told(f"unpacking {file.name}")
        unpack(target, file.members, folder)
        target.unlink()


def _published_md5(file: RemoteFile, watcher: Watcher, patience: Patience) -> str | None:
    if file.md5 is None:
        return None
    text = fetch_text(file.md5, watcher, patience)
    if text is None:
        watcher.told(f"{file.md5} is not there: the checksum of {file.name} is not compared")
        return None
    return md5_in(text, file.md5)
