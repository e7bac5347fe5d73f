"""A model's folder as rows and back: nothing lost, no damage unnoticed, several processes at once."""

import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.adapters import as_rows, identity, restore
from deeper_assets_tests.store import workers
from deeper_assets_tests.store.samples import stamp

FILES = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": bytes(range(256)) * 40,
    ".hidden": b"",
    "tokenizer/vocab.txt": "é\n".encode(),
}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    return as_rows(write(tmp_path / "model"))


def test_every_file_is_a_row_in_the_order_of_their_paths(rows: pd.DataFrame) -> None:
    assert rows["file"].tolist() == sorted(FILES)
    assert dict(zip(rows["file"], rows["content"], strict=True)) == FILES
    assert rows["size"].tolist() == [0, 2, 10240, 3]
    assert rows["sha256"][1] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}


def test_rows_become_the_same_folder_again(rows: pd.DataFrame, tmp_path: Path) -> None:
    folder = restore(
        rows.sample(frac=1, random_state=1).assign(recipe="balanced"), tmp_path / "home" / "models"
    )
    assert folder == tmp_path / "home" / "models" / identity(rows)
    assert read(folder) == FILES
    inodes = {path: path.stat().st_ino for path in folder.rglob("*")}
    assert restore(rows, folder.parent) == folder
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == inodes  # not written again


def test_a_model_is_known_by_its_files_and_their_bytes_alone(rows: pd.DataFrame) -> None:
    told = json.dumps([[name, hashlib.sha256(FILES[name]).hexdigest()] for name in sorted(FILES)])
    assert identity(rows) == hashlib.sha256(told.encode()).hexdigest()[:16]
    assert identity(rows[["file", "sha256"]][::-1].assign(run_id="another")) == identity(rows)
    others = [
        rows.assign(file=["a", *rows["file"][1:]]),
        rows.assign(sha256=["0" * 64, *rows["sha256"][1:]]),
        rows[1:],
    ]
    assert len({identity(rows), *map(identity, others)}) == 4


def test_the_rows_of_a_model_pass_through_the_warehouse(warehouse, tmp_path: Path) -> None:
    weights = os.urandom(20 << 20)
    given = as_rows(write(tmp_path / "model", FILES | {"adapter_model.safetensors": weights}))
    trained = given.assign(recipe="balanced", ended=1.0)
    version = warehouse.replace("model_1", {"recipe": "balanced"}, trained, stamp())
    again = warehouse.replace("model_1", {"recipe": "balanced"}, trained, stamp("later"))
    assert version.content == again.content
    loaded = warehouse.load("model_1", {"recipe": ["balanced"]})
    pd.testing.assert_frame_equal(loaded[list(given)], given)
    assert read(restore(loaded, tmp_path / "cache"))["adapter_model.safetensors"] == weights
    flipped = weights[:-1] + bytes([weights[-1] ^ 1])
    other = as_rows(write(tmp_path / "model", {"adapter_model.safetensors": flipped}))
    other = other.assign(recipe="balanced", ended=1.0)
    changed = warehouse.replace("model_1", {"recipe": "balanced"}, other, stamp())
    assert changed.content != version.content
    with pytest.raises(
        DeeperError, match=r"'size' must satisfy size = octet_length\(content\) \(1 rows do not"
    ):
        warehouse.replace("base_policy", {}, given.assign(size=[1, 2, 20 << 20, 3]), stamp())


# ------------------------------------------------------------------------------------------- a damaged cache


def flip(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def cut(folder: Path) -> None:
    os.truncate(folder / "adapter_model.safetensors", 10)


def point_elsewhere(folder: Path) -> None:
    (folder / "adapter_config.json").rename(folder.parent / "moved")
    (folder / "adapter_config.json").symlink_to(folder.parent / "moved")


def replace_by_a_link(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.symlink_to(folder.parent / "moved")


def replace_by_a_file(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.write_text("a file")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (flip, "adapter_model.safetensors has other bytes"),
        (cut, "adapter_model.safetensors has other bytes"),
        (lambda folder: (folder / ".hidden").unlink(), ".hidden is missing"),
        (lambda folder: (folder / "tokenizer/vocab.txt").unlink(), "tokenizer/vocab.txt is missing"),
        (lambda folder: (folder / "more.bin").write_text("x"), "more.bin does not belong there"),
        (lambda folder: (folder / "more").mkdir(), "more does not belong there"),
        (point_elsewhere, "adapter_config.json is missing"),
        (replace_by_a_link, "it is no folder"),
        (replace_by_a_file, "it is no folder"),
    ],
)
def test_damage_of_the_cache_is_noticed_and_mended(
    rows: pd.DataFrame,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    fault: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        folder = restore(rows, tmp_path / "cache")
        assert caplog.messages == []
        damage(folder)
        assert restore(rows, tmp_path / "cache") == folder
        assert caplog.messages == [f"{folder} is damaged: {fault}; it is made anew from the warehouse"]
        assert not folder.is_symlink()
        assert read(folder) == FILES
        assert restore(rows, tmp_path / "cache") == folder
        assert len(caplog.messages) == 1
    left = {path.name for path in folder.parent.iterdir()} - {"moved"}
    assert left == {folder.name, f"{folder.name}.lock"}


def test_what_a_killed_process_left_is_no_hindrance(rows: pd.DataFrame, tmp_path: Path) -> None:
    folder = restore(rows, tmp_path / "cache")
    write(folder.with_name(f"{folder.name}.partial"), {"half": b"x", "adapter_config.json": b"?"})
    folder.rename(folder.with_name(f"{folder.name}.damaged"))  # killed between the two renamings
    assert read(restore(rows, tmp_path / "cache")) == FILES
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock"}


@pytest.mark.slow
def test_processes_that_restore_at_once_all_get_the_whole_model(tmp_path: Path) -> None:
    files = FILES | {"adapter_model.safetensors": os.urandom(8 << 20)}
    rows = as_rows(write(tmp_path / "model", files))
    spawn = multiprocessing.get_context("spawn")
    for damaged in (False, True):
        if damaged:
            flip(tmp_path / "cache" / identity(rows))
        told, start = spawn.Queue(), spawn.Barrier(6)
        processes = [
            spawn.Process(
                target=workers.restore_and_read, args=(tmp_path / "model", tmp_path / "cache", start, told)
            )
            for _ in range(6)
        ]
        for process in processes:
            process.start()
        restored = [told.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
        assert restored == [(str(tmp_path / "cache" / identity(rows)), identity(rows))] * 6


# ---------------------------------------------------------------------------------------- what is refused


def test_damage_of_the_stored_bytes_is_an_error_that_names_the_file(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    folder = restore(rows, tmp_path / "cache")
    damaged = rows.assign(content=[content + b"?" * (i == 1) for i, content in enumerate(rows["content"])])
    with pytest.raises(
        DeeperError,
        match=r"file 'adapter_config.json' of a stored model is damaged: .* materialize the model again",
    ):
        restore(damaged, tmp_path / "cache")
    assert read(folder) == FILES


@pytest.mark.parametrize("file", ["../out", "/tmp/out", "a/../../out", "a//b", "a/.", ".", ""])
def test_no_file_lies_outside_of_the_folder(rows: pd.DataFrame, tmp_path: Path, file: str) -> None:
    with pytest.raises(DeeperError, match="does not lie inside the model's folder"):
        restore(rows[:1].assign(file=file), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_rows_that_are_not_one_model(rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DeeperError, match="no file of this model is stored"):
        restore(rows[:0], tmp_path / "cache")
    with pytest.raises(DeeperError, match=r"'\.hidden' comes twice; these are rows of more than one model"):
        restore(pd.concat([rows, rows]), tmp_path / "cache")


def test_a_cache_that_cannot_be_written(rows: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DeeperError, match=r"cannot make the folder of a model below .*cache: .*make room"):
        restore(rows, tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: (folder / "link").symlink_to("adapter_config.json"), "link is a link"),
        (lambda folder: (folder / "linked").symlink_to("tokenizer"), "linked is a link"),
        (lambda folder: (folder / "gone").symlink_to("nowhere"), "gone is a link"),
        (lambda folder: (folder / "tokenizer" / "empty").mkdir(), "tokenizer/empty is an empty folder"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe is a pipe, socket or device"),
    ],
)
def test_what_rows_cannot_hold_is_refused(
    tmp_path: Path, change: Callable[[Path], object], fault: str
) -> None:
    folder = write(tmp_path / "model")
    change(folder)
    with pytest.raises(DeeperError, match=rf"model cannot be stored: {fault}; only plain files can be"):
        as_rows(folder)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeeperError, match="empty holds no file, so there is no model in it"):
        as_rows(tmp_path / "empty")
    with pytest.raises(DeeperError, match="gone is no folder, so there is no model in it"):
        as_rows(tmp_path / "gone")
