"""Whole data sets, from a local server; and what the table of publishers says."""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads.fetching import download
from deeper_assets.sources.downloads.publishers import (
    AMAZON_CATEGORIES,
    MOVIELENS_SIZES,
    STATES,
    Dataset,
    RemoteFile,
    amazon,
    google_local,
    movielens,
)
from deeper_assets.sources.downloads.transfer import Patience
from deeper_assets_tests.sources.downloads.file_server import (
    FileServer,
    Notes,
    breaking_off,
    by_path,
    honest,
    serving,
    status,
)

PATIENCE = Patience(window=30, least=1, tries=3, pause=0)
RATINGS = b"userId,movieId,rating,timestamp\r\n" + b"".join(b"%d,2,3.5,1\r\n" % user for user in range(5000))
MOVIES = b"movieId,title,genres\r\n2,Jumanji (1995),Adventure\r\n"
REVIEWS = gzip.compress(b'{"reviewerID": "a"}\n' * 1000, mtime=0)


def zipped() -> bytes:
    """What GroupLens publishes, small."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        files = {"ratings.csv": RATINGS, "movies.csv": MOVIES, "README.txt": b"Summary", "tags.csv": b"tags"}
        for name, data in files.items():
            archive.writestr(f"ml-20m/{name}", data)
    return content.getvalue()


ZIP = zipped()
MD5 = f"MD5 (ml-20m.zip) = {hashlib.md5(ZIP).hexdigest()}\n".encode()


def here(dataset: Dataset, server: FileServer) -> Dataset:
    """The same data set, at a local server."""

    def moved(address: str) -> str:
        return server.address(urlsplit(address).path.lstrip("/"))

    files = tuple(
        RemoteFile(moved(file.address), file.size, file.md5 and moved(file.md5), file.members)
        for file in dataset.files
    )
    return Dataset(dataset.title, dataset.page, dataset.licence, dataset.citation, files)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


UNPACKED = {"ml-20m/ratings.csv": RATINGS, "ml-20m/movies.csv": MOVIES, "ml-20m/README.txt": b"Summary"}


def test_movielens_is_compared_with_its_checksum_and_unpacked(tmp_path: Path) -> None:
    notes = Notes()
    with serving(by_path({"ml-20m.zip": honest(ZIP), "ml-20m.zip.md5": honest(MD5)})) as server:
        paths = download(here(movielens("20m"), server), tmp_path / "data", notes, PATIENCE)
        assert tree(tmp_path / "data") == UNPACKED
        assert paths == [tmp_path / "data" / name for name in UNPACKED]
        asked = len(server.asked)
        download(here(movielens("20m"), server), tmp_path / "data", notes, PATIENCE)
        assert len(server.asked) == asked == 2
    assert notes.texts == [
        "checking ml-20m.zip",
        "unpacking ml-20m.zip",
        "already there, and not fetched again: ml-20m/ratings.csv, ml-20m/movies.csv, ml-20m/README.txt",
    ]


def test_a_wrong_checksum_keeps_nothing(tmp_path: Path) -> None:
    wrong = b"0" * 32 + b"  ml-20m.zip\n"
    with serving(by_path({"ml-20m.zip": honest(ZIP), "ml-20m.zip.md5": honest(wrong)})) as server:
        with pytest.raises(DeeperError, match=f"its publisher says {'0' * 32}; the next try begins anew"):
            download(here(movielens("20m"), server), tmp_path, Notes(), PATIENCE)
        assert tree(tmp_path) == {}
    with serving(by_path({"ml-20m.zip": honest(ZIP), "ml-20m.zip.md5": honest(MD5)})) as server:
        download(here(movielens("20m"), server), tmp_path, Notes(), PATIENCE)
    assert tree(tmp_path) == UNPACKED


def test_a_checksum_that_is_not_there_is_told(tmp_path: Path) -> None:
    notes = Notes()
    with serving(by_path({"ml-20m.zip": honest(ZIP)})) as server:
        download(here(movielens("20m"), server), tmp_path, notes, PATIENCE)
        address = server.address("datasets/movielens/ml-20m.zip.md5")
    assert notes.texts[0] == f"{address} is not there: the checksum of ml-20m.zip is not compared"
    assert tree(tmp_path) == UNPACKED


def test_what_was_killed_while_unpacking_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "ml-20m.zip").write_bytes(ZIP)
    (tmp_path / "ml-20m").mkdir()
    (tmp_path / "ml-20m" / "ratings.csv").write_bytes(RATINGS)
    (tmp_path / "ml-20m" / "movies.csv.part").write_bytes(MOVIES[:5])
    with serving(by_path({"ml-20m.zip.md5": honest(MD5)})) as server:
        download(here(movielens("20m"), server), tmp_path, Notes(), PATIENCE)
        assert [Path(asked.path).name for asked in server.asked] == ["ml-20m.zip.md5"]
    assert tree(tmp_path) == UNPACKED


def test_reviews_and_titles_go_on_where_they_broke_off(tmp_path: Path) -> None:
    titles = gzip.compress(b'{"asin": "1", "title": "Dune"}\n' * 10, mtime=0)
    broken = breaking_off(20, honest(titles))
    files = {"Books_5.json.gz": honest(REVIEWS), "meta_Books.json.gz": honest(titles)}
    dataset = amazon("books", 2018, complete=False)
    with serving(by_path(files), broken, status(500), status(500), status(500), by_path(files)) as server:
        with pytest.raises(DeeperError, match=r"meta_Books\.json\.gz: the server answers with status 500"):
            download(here(dataset, server), tmp_path, Notes(), PATIENCE)
        notes = Notes()
        download(here(dataset, server), tmp_path, notes, PATIENCE)
        last = server.asked[-1]
    assert (last.start, last.sent) == (20, len(titles) - 20)
    assert tree(tmp_path) == {"Books_5.json.gz": REVIEWS, "meta_Books.json.gz": titles}
    assert notes.texts == [
        "already there, and not fetched again: Books_5.json.gz",
        "checking meta_Books.json.gz",
    ]


def test_a_gzip_that_the_server_cut_short_is_not_kept(tmp_path: Path) -> None:
    files = {"Books.jsonl.gz": honest(REVIEWS[:-50]), "meta_Books.jsonl.gz": honest(REVIEWS)}
    with (
        serving(by_path(files)) as server,
        pytest.raises(DeeperError, match=r"Books\.jsonl\.gz came, but it is no whole gzip file"),
    ):
        download(here(amazon("Books", 2023, complete=False), server), tmp_path, Notes(), PATIENCE)
    assert tree(tmp_path) == {}


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DeeperError, match="data is a file; name a folder"):
        download(movielens("20m"), tmp_path / "data", Notes(), PATIENCE)


# -------------------------------------------------------------------------------------- the publishers' table


def addresses(dataset: Dataset) -> list[str]:
    """Where the files of a data set are."""
    return [file.address for file in dataset.files]


UCSD = "https://mcauleylab.ucsd.edu/public_datasets"


def test_the_official_addresses() -> None:
    assert addresses(movielens("32M")) == ["https://files.grouplens.org/datasets/movielens/ml-32m.zip"]
    assert movielens("latest-small").files[0].kept[:2] == (
        "ml-latest-small/ratings.csv",
        "ml-latest-small/movies.csv",
    )
    assert addresses(amazon("Movies and TV", 2018, complete=False)) == [
        f"{UCSD}/data/amazon_v2/categoryFilesSmall/Movies_and_TV_5.json.gz",
        f"{UCSD}/data/amazon_v2/metaFiles2/meta_Movies_and_TV.json.gz",
    ]
    assert addresses(amazon("Arts, Crafts & Sewing", 2018, complete=True)) == [
        f"{UCSD}/data/amazon_v2/categoryFiles/Arts_Crafts_and_Sewing.json.gz",
        f"{UCSD}/data/amazon_v2/metaFiles2/meta_Arts_Crafts_and_Sewing.json.gz",
    ]
    assert addresses(amazon("Books", 2023, complete=False)) == [
        f"{UCSD}/data/amazon_2023/raw/review_categories/Books.jsonl.gz",
        f"{UCSD}/data/amazon_2023/raw/meta_categories/meta_Books.jsonl.gz",
    ]
    assert addresses(google_local("new york", complete=False)) == [
        f"{UCSD}/gdrive/googlelocal/review-New_York_10.json.gz",
        f"{UCSD}/gdrive/googlelocal/meta-New_York.json.gz",
    ]
    assert addresses(google_local("Hawaii", complete=True))[0].endswith("/review-Hawaii.json.gz")


def test_all_that_is_offered_is_encrypted_licensed_and_cited() -> None:
    every = [
        *(movielens(size) for size in MOVIELENS_SIZES),
        *(amazon(name, year, False) for year, names in AMAZON_CATEGORIES.items() for name in names),
        *(google_local(state, False) for state in STATES),
    ]
    assert len({dataset.title for dataset in every}) == len(every) == 5 + 29 + 34 + 51
    for dataset in every:
        assert all(address.startswith("https://") for address in (*addresses(dataset), dataset.page))
        assert dataset.licence and dataset.citation


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda: movielens("20"), "there is no size of MovieLens called '20'; did you mean '20m'?"),
        (
            lambda: amazon("Bookz", 2018, False),
            "of Amazon's reviews of 2018 called 'Bookz'; did you mean 'Books'?",
        ),
        (lambda: amazon("Prime_Pantry", 2023, False), "of Amazon's reviews of 2023 called 'Prime_Pantry'"),
        (
            lambda: google_local("Bavaria", False),
            "no state of Google Local called 'Bavaria'; known: Alabama, ",
        ),
        (lambda: google_local("../x", False), "no state of Google Local called '../x'"),
    ],
)
def test_what_is_not_offered_is_said(choose: Callable[[], Dataset], message: str) -> None:
    with pytest.raises(DeeperError) as caught:
        choose()
    assert message in str(caught.value)
