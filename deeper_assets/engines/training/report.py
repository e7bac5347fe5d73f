"""What a training tells: its figures as they come, and what it did in all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from deeper_assets.engines.training.memory import Memory


@dataclass(frozen=True)
class Progress:
    """Figures at one optimizer step: means over the steps since the last, or over all validation examples.

    Attributes:
        kind: of which examples.
        step: optimizer steps done.
        epoch: passes over the examples done.
        loss: of preferences, plus α times the negative log-likelihood.
        reward_accuracy: share (0-1) of better and worse completions that the policy's scores order so too.
        reward_margin: mean score of better minus worse, a score being β·(log π − log π_ref).
        learning_rate: of this step; None for validation.
        gradient_norm: before it was scaled down; None for validation.
    """

    kind: Literal["training", "validation"]
    step: int
    epoch: float
    loss: float
    reward_accuracy: float
    reward_margin: float
    learning_rate: float | None = None
    gradient_norm: float | None = None

    @classmethod
    def of(cls, logged: Mapping[str, Any]) -> "Progress | None":
        """A row of the trainer's log; None for those that hold no loss."""
        validates = "eval_loss" in logged
        at = "eval_" if validates else ""
        if f"{at}loss" not in logged:
            return None
        return cls(
            kind="validation" if validates else "training",
            step=int(logged["step"]),
            epoch=float(logged["epoch"]),
            loss=float(logged[f"{at}loss"]),
            reward_accuracy=float(logged[f"{at}rewards/accuracies"]),
            reward_margin=float(logged[f"{at}rewards/margins"]),
            learning_rate=None if validates else float(logged["learning_rate"]),
            gradient_norm=None if validates else float(logged["grad_norm"]),
        )

    def __str__(self) -> str:
        text = (
            f"{self.kind}: step {self.step}, epoch {self.epoch:.2f}, loss {self.loss:.4f}, "
            f"reward accuracy {self.reward_accuracy:.3f}, margin {self.reward_margin:.4f}"
        )
        if self.kind == "validation":
            return text
        return f"{text}, learning rate {self.learning_rate:.3g}, gradient norm {self.gradient_norm:.3g}"


@dataclass(frozen=True)
class Endings:
    """Whether the trained policy's texts come to an end: what runs on is cut, and then no persona.

    Attributes:
        texts: how many were looked at, one a prompt.
        ended: share (0-1) of them that came to an end. Of a policy in shards, which cannot write while it is
            trained: the mean probability of the end token where the better completion ends.
        tokens: their mean length.
        written: whether the policy wrote them itself, as `job.decoding` says.
    """

    texts: int
    ended: float
    tokens: float
    written: bool


Reporter: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        job: hash of everything that decides the adapter: settings, and the content of examples and models.
        start: sha256 of the weights it went on from; None for a fresh adapter.
        adapter: sha256 of the weights it ended with.
        trained, validated: examples (pairs or groups).
        left_out: reason → how many; see `examples`.
        steps: optimizer steps in all.
        epochs: passes over the examples.
        warmup_steps: optimizer steps until the highest learning rate.
        resumed_from: step of the checkpoint that the last process went on from; 0 for the beginning.
        training, validation: the last figures of each kind; None where nothing validated.
        endings: whether the policy's texts come to an end.
        notes: what was done otherwise than asked, in words.
        device: cpu, or the GPU's name.
        devices: how many trained together.
        memory: what one of them was expected to need, and had.
        memory_peak: bytes that the first of them took at most: of a GPU by tensors, of the machine in all.
        seconds: of the last process.
        versions: of the libraries.
    """

    job: str
    loss: str
    reference: str
    start: str | None
    adapter: str
    trained: int
    validated: int
    left_out: Mapping[str, int]
    steps: int
    epochs: float
    warmup_steps: int
    resumed_from: int
    training: Progress | None
    validation: Progress | None
    endings: Endings
    notes: tuple[str, ...]
    device: str
    devices: int
    memory: Memory
    memory_peak: int
    seconds: float
    versions: Mapping[str, str]
