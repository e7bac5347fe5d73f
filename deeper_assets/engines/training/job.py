"""A training job: its file, what is refused before anything heavy is imported, and what identifies it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from deeper_assets.engines.training.hardware import ONE_DEVICE, Hardware
from deeper_assets.method.exceptions import DeeperError, did_you_mean, one_line
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import Training

CODE_VERSION = "3"
"""Changes with anything here that changes an adapter by more than rounding. Checkpoints of other code are not
gone on from, and models that it trained are stale."""

GREEDY = Decoding(temperature=0.0, top_p=1.0, repetition_penalty=1.0)

Loss: TypeAlias = Literal["pairwise", "lipo", "softmax"]


@dataclass(frozen=True)
class TrainingJob:
    """What to train, on what, and where to.

    Attributes:
        base: folder or hub name of the base model.
        examples: Parquet file of pairs or groups; see `examples.read_groups`.
        output: folder for the adapter, the report and the log; made if need be.
        loss: DPO on pairs, or on whole groups: LiPO-λ or the softmax form of S-DPO.
        seed: decides the first weights, the order of examples and the dropout.
        training: how hard the optimizer works.
        hardware: what it runs on.
        adapter: folder of the adapter to go on from; None for a fresh one.
        reference: the policy training starts from, or the base without any adapter.
        decoding: how a few texts are written when it is done, to see whether they come to an end.
        device: `auto` takes a GPU if there is one.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    base: str
    examples: Path
    output: Path
    loss: Loss
    seed: int
    training: Training
    hardware: Hardware = ONE_DEVICE
    adapter: Path | None = None
    reference: Literal["start", "base"] = "start"
    decoding: Decoding = GREEDY
    device: Literal["cpu", "auto"] = "auto"


def read_job(path: Path) -> TrainingJob:
    """The job of a JSON file.

    Raises:
        DeeperError: the file cannot be read, a name is unknown or missing, or a value does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(TrainingJob).validate_json(path.read_bytes())
    except OSError as error:
        raise DeeperError(f"training job {path} cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(map(str, first["loc"]))
        if first["type"] == "unexpected_keyword_argument":
            raise DeeperError(f"training job {path}: {_unknown(place)}") from error
        raise DeeperError(
            f"training job {path}: {'.'.join(place)}: {first['msg']}, got {first['input']!r}"
        ) from error


def _unknown(place: tuple[str, ...]) -> str:
    *parts, name = place
    kind = (
        {"training": Training, "hardware": Hardware, "decoding": Decoding}[parts[0]] if parts else TrainingJob
    )
    known = [field.name for field in fields(kind)]
    hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
    return ": ".join([*parts, f"{name!r} is unknown{hint}"])


def refuse_missing(job: TrainingJob) -> None:
    """Refuses files that are not there before anything is imported, which takes seconds.

    Raises:
        DeeperError: the base, the examples or the adapter is missing.
    """
    if Path(job.base).is_absolute() and not Path(job.base).is_dir():
        raise DeeperError(f"base model {job.base}: there is no such folder")
    if not job.examples.is_file():
        raise DeeperError(f"examples {job.examples}: there is no such file")
    if job.adapter is not None and not job.adapter.is_dir():
        raise DeeperError(f"adapter {job.adapter}: there is no such folder")


def identity(job: TrainingJob) -> str:
    """Hash of all that decides the adapter, by content, so that folders may be called anything.

    The number of devices is no part of it: a training that four began, two may go on with. Nor is `decoding`.
    """
    others = {"output", "hardware", "decoding"}
    settings = {key: value for key, value in asdict(job).items() if key not in others}
    settings |= job.hardware.identity()
    base = Path(job.base)
    settings["base"] = {"name": base.name, **_files(base)} if base.is_dir() else job.base
    settings["examples"] = file_hash(job.examples)
    settings["adapter"] = _files(job.adapter) if job.adapter else None
    settings["code"] = {"trainer": CODE_VERSION, **library_versions()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Library → version, of those that decide an adapter."""
    return {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> dict[str, str]:
    """File → its size and a hash of its beginning: enough to tell models apart, and quick for large ones."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                beginning = hashlib.sha256(file.read(2**20)).hexdigest()
            files[path.relative_to(folder).as_posix()] = f"{path.stat().st_size} {beginning}"
    return files
