"""`deeper download`: the original data sets, from their publishers."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deeper_assets.method.exceptions import DeeperError

if TYPE_CHECKING:
    from deeper_assets.sources.downloads.publishers import Dataset

_EVERY = 30
"""Seconds between two lines of progress in a log file."""


@click.group("download")
def download_group() -> None:
    """Fetch an original data set from its publisher; a download that broke off goes on where it was."""


def _into_a_folder(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every download."""
    to = click.option(
        "--to",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that it goes to.",
    )
    accept = click.option("--accept", is_flag=True, help="Accept its licence without being asked.")
    return to(accept(command))


_COMPLETE = click.option(
    "--complete", is_flag=True, help="All reviews, not only those between people and items that have many."
)


@download_group.command("movielens")
@click.argument("size", default="20m")
@_into_a_folder
def movielens_command(size: str, to: Path, accept: bool) -> None:
    """Fetch MovieLens: SIZE is 20m (the paper's), 25m, 32m, latest or latest-small."""
    from deeper_assets.sources.downloads.publishers import movielens

    _download(movielens(size), to, accept)


@download_group.command("amazon")
@click.argument("category")
@click.option("--year", type=click.Choice(["2018", "2023"]), default="2018", show_default=True)
@_COMPLETE
@_into_a_folder
def amazon_command(category: str, year: str, complete: bool, to: Path, accept: bool) -> None:
    """Fetch Amazon's reviews of a CATEGORY, such as Books, with the products' titles.

    The reviews of 2018 are those between people and products with five or more each, unless --complete. Those
    of 2023 are always complete.
    """
    from deeper_assets.sources.downloads.publishers import amazon

    _download(amazon(category, int(year), complete), to, accept)


@download_group.command("google-local")
@click.argument("state")
@_COMPLETE
@_into_a_folder
def google_local_command(state: str, complete: bool, to: Path, accept: bool) -> None:
    """Fetch Google's reviews of the businesses of a STATE, such as New_York, with their names.

    They are those between people and businesses with ten or more each, unless --complete.
    """
    from deeper_assets.sources.downloads.publishers import google_local

    _download(google_local(state, complete), to, accept)


@download_group.command("food", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def food_command() -> None:
    """Say how to get Food.com's ratings: they lie at Kaggle, which wants an account."""
    from deeper_assets.sources.downloads.publishers import FOOD

    click.echo(FOOD)


def _download(dataset: "Dataset", folder: Path, accepted: bool) -> None:
    """Shows what the publisher asks for, and fetches once that is accepted."""
    from deeper_assets.sources.downloads.fetching import download

    click.echo(f"{dataset.title} ({dataset.page})\nlicence: {dataset.licence}\nto cite: {dataset.citation}")
    for file in dataset.files:
        click.echo(f"file: {file.address}" + (f" (about {_readable(file.size)})" if file.size else ""))
    if not accepted:
        if not sys.stdin.isatty():
            raise DeeperError(
                f"nothing was fetched: --accept says that you accept the licence of {dataset.title}"
            )
        click.confirm("Do you accept that?", abort=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _progress() as watcher:
            paths = download(dataset, folder, watcher)
    except OSError as error:
        raise DeeperError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); --to names another"
            " folder"
        ) from error
    for path in paths:
        click.echo(f"there: {path}")
    click.echo(f"next: DEEPER_DOWNLOADS={shlex.quote(str(folder))} deeper run, or `downloads` in a profile")


class _Lines:
    """Progress for a log file, where redrawing would glue everything into one line."""

    def __init__(self) -> None:
        self._name = ""
        self._began = self._wrote = 0.0
        self._before = 0

    def came(self, name: str, have: int, size: int | None) -> None:
        """Says how far it is: at the end, and now and then before."""
        from tqdm import tqdm

        now = time.monotonic()
        if name != self._name:
            self._name, self._began, self._wrote, self._before = name, now, now, have
        if have != size and now - self._wrote < _EVERY:
            return
        self._wrote = now
        gone, gained = now - self._began, have - self._before
        text = f"{name}: {_readable(have)}"
        if size is not None:
            text += f" of {_readable(size)}"
        text += f", {tqdm.format_interval(gone)} gone"
        if size is not None and size > have and gained > 0:
            text += f", about {tqdm.format_interval(gone / gained * (size - have))} left"
        self.told(text)

    def told(self, text: str) -> None:
        """Writes a line."""
        click.echo(text, err=True)


class _Bar:
    """Progress at a terminal: for each file a bar with bytes, their rate and the time left."""

    def __init__(self) -> None:
        self._name = ""
        self._bar: Any = None

    def came(self, name: str, have: int, size: int | None) -> None:
        """Moves the bar; that of a file that goes on begins where it was."""
        from tqdm import tqdm

        if self._bar is None or name != self._name or have < self._bar.n:
            self.close()
            self._name = name
            self._bar = tqdm(desc=name, total=size, initial=have, unit="B", unit_scale=True)
        self._bar.update(have - self._bar.n)
        if have == size:
            self.close()

    def told(self, text: str) -> None:
        """Writes a line, above the bar where there is one."""
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is, and goes to the next line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def _progress() -> Iterator[_Lines | _Bar]:
    """Progress on standard error."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.close()


def _readable(size: int) -> str:
    """A number of bytes, with three digits of it."""
    from tqdm import tqdm

    return tqdm.format_sizeof(size, "B")
