"""Files that came: whole ones, damaged ones, and zips that mean harm."""

import gzip
import hashlib
import re
import stat
import zipfile
from pathlib import Path

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.downloads import parts
from deeper_assets.sources.downloads.archives import (
    check_gzip,
    check_md5,
    check_zip,
    md5_in,
    unpack,
)
from deeper_assets.sources.downloads.transfer import DamagedError

RATINGS = b"userId,movieId,rating,timestamp\r\n" + b"1,2,3.5,1112486027\r\n" * 2000
MEMBERS = ("ml/ratings.csv", "ml/movies.csv")


def packed(folder: Path, *more: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    """A zip with the two members that are needed, and others."""
    path = folder / "ml.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml/", b"")
        archive.writestr("ml/ratings.csv", RATINGS)
        archive.writestr("ml/movies.csv", b"movieId,title,genres\r\n")
        for name, content in more:
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> set[str]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_the_needed_members_are_unpacked(tmp_path: Path) -> None:
    evil = [(name, b"evil") for name in ("../evil", "/tmp/evil", "ml/../../evil", "ml/tags.csv", "..\\evil")]
    inside = tmp_path / "inside"
    inside.mkdir()
    unpack(packed(inside, *evil), MEMBERS, inside)
    assert tree(tmp_path) == {"inside/ml.zip", "inside/ml/ratings.csv", "inside/ml/movies.csv"}
    assert (inside / "ml" / "ratings.csv").read_bytes() == RATINGS
    assert not Path("/tmp/evil").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = packed(tmp_path, ("ml/bomb.csv", bytes(60_000_000)))
    with pytest.raises(
        DeeperError, match=r"ml/bomb\.csv says that its [\d,]+ bytes become 60,000,000: no table"
    ):
        unpack(path, (*MEMBERS, "ml/bomb.csv"), tmp_path)
    assert tree(tmp_path) == {"ml.zip"}


def test_a_member_that_is_larger_than_it_says_is_damaged(tmp_path: Path) -> None:
    path = packed(tmp_path)
    size, smaller = len(RATINGS).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(size) == 2  # before the member, and in the list at the end
    path.write_bytes(content.replace(size, smaller))
    with pytest.raises(DeeperError, match=r"ml\.zip is damaged \(Bad CRC-32 .*delete it, and fetch it again"):
        unpack(path, MEMBERS, tmp_path)
    assert not (tmp_path / "ml" / "ratings.csv").exists()


def test_a_link_is_no_file(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("ml/link.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DeeperError, match=r"ml/link\.csv is a link, not a file"):
        unpack(packed(tmp_path, (link, b"/etc/passwd")), ("ml/link.csv",), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(DeeperError, match=r"has 2 members called ml/ratings\.csv"):
        unpack(packed(tmp_path, ("ml/ratings.csv", b"other")), MEMBERS, tmp_path)
    with pytest.raises(DeeperError, match=r"has 0 members called ml/links\.csv"):
        unpack(packed(tmp_path), ("ml/links.csv",), tmp_path)
    assert tree(tmp_path) == {"ml.zip"}


def test_a_damaged_or_encrypted_member_is_said(tmp_path: Path) -> None:
    path = packed(tmp_path)
    whole = path.read_bytes()
    at = whole.index(b"ml/ratings.csv") + 30
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(DeeperError, match="is damaged"):
        unpack(path, MEMBERS, tmp_path)
    encrypted = bytearray(whole)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for header in re.finditer(re.escape(signature), whole):
            encrypted[header.start() + flags] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(DeeperError, match=r"is damaged \(File .*encrypted"):
        unpack(path, MEMBERS, tmp_path)
    assert not (tmp_path / "ml" / "ratings.csv").exists()


def test_a_full_disk_is_seen_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path)
    monkeypatch.setattr(parts, "SPARE", 10**18)
    with pytest.raises(DeeperError, match="GB free"):
        unpack(path, MEMBERS, tmp_path)
    assert tree(tmp_path) == {"ml.zip"}


@pytest.mark.parametrize(
    "text",
    [
        "cd245b17a1ae2cc31bb14903e1204af3  ml-20m.zip\n",
        "MD5 (ml-20m.zip) = CD245B17A1AE2CC31BB14903E1204AF3",
    ],
)
def test_a_checksum_in_either_form(text: str) -> None:
    assert md5_in(text, "http://x/ml-20m.zip.md5") == "cd245b17a1ae2cc31bb14903e1204af3"


@pytest.mark.parametrize("text", ["", "<html>Not found</html>", f"{'a' * 32} {'b' * 32}", "a" * 40])
def test_what_is_no_checksum_is_said(text: str) -> None:
    with pytest.raises(DeeperError, match=r"md5 gives no MD5 checksum; it begins"):
        md5_in(text, "http://x/ml-20m.zip.md5")


def test_another_checksum_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(RATINGS)
    digest = hashlib.md5(RATINGS).hexdigest()
    check_md5(path, digest)
    with pytest.raises(
        DamagedError, match=f"its MD5 checksum is {digest}, and its publisher says {'0' * 32}"
    ):
        check_md5(path, "0" * 32)


def test_a_gzip_is_whole_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    whole = gzip.compress(RATINGS, mtime=0)
    path.write_bytes(whole + gzip.compress(b"a second member"))
    check_gzip(path)
    flipped = whole[:50] + bytes([whole[50] ^ 255]) + whole[51:]
    for damaged in (whole[:-100], whole[:-1], flipped, b"<html>", b"", whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match="it is no whole gzip file"):
            check_gzip(path)


def test_a_zip_is_whole_or_damaged(tmp_path: Path) -> None:
    path = packed(tmp_path)
    check_zip(path)
    for damaged in (path.read_bytes()[:-200], b"<html>", b""):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match="it is no zip file; it begins"):
            check_zip(path)
