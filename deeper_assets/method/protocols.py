"""What the method asks of whatever computes: small protocols and the values they speak in.

Engines implement them structurally, so nothing has to inherit from anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Answer:
    """What a chat model said to one prompt, or why it said nothing that can be used.

    Attributes:
        text: the answer; None where there is none.
        reason: one word out of `method.parsing.REASONS` that says why not; None where there is a text.
    """

    text: str | None
    reason: str | None = None


class ChatModel(Protocol):
    """A frozen chat model: prompts in, text out."""

    @property
    def name(self) -> str:
        """Identifies the model and everything that shapes its answers; part of every fingerprint."""
        ...

    def answer(
        self, prompts: Sequence[str], *, attempt: int = 0, schema: Mapping[str, Any] | None = None
    ) -> list[Answer]:
        """Answers each prompt, in order.

        Args:
            prompts: complete prompts, each a single user message.
            attempt: 0 for the first time these prompts are asked, then 1, 2, … for repeated questions.
            schema: JSON schema of the answers, for models that can be held to one; None for prose. The
                prompts ask for the same in words.

        Returns:
            One answer a prompt.
        """
        ...


@dataclass(frozen=True)
class Decoding:
    """How a policy writes. The defaults are the paper's for sampling candidates, where it says them.

    Attributes:
        temperature: 0 is greedy.
        top_p: share of the probability that may be drawn from.
        repetition_penalty: makes tokens less likely that stand in the text already. The prompt counts as
            text, and so the old persona does too.
        max_new_tokens: a text is cut after as many tokens. The paper's personas have 429 on average at last.

    Raises:
        ValueError: one of them lies where it makes no sense.
    """

    temperature: float = 1.0
    top_p: float = 0.4
    repetition_penalty: float = 1.1
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        for name, fits, bounds in (
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, and 1 at most"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
        ):
            if not fits:
                raise ValueError(f"{name} = {getattr(self, name):g}: it must be {bounds}")


@dataclass(frozen=True)
class Sample:
    """One text of a policy.

    Attributes:
        text: what it wrote, without special tokens.
        tokens: how many tokens that took, the end token not counted.
        finished: whether it came to an end by itself; otherwise it was cut.
    """

    text: str
    tokens: int
    finished: bool


class Embedder(Protocol):
    """What turns texts into vectors."""

    @property
    def name(self) -> str:
        """Identifies it and everything that shapes its vectors."""
        ...

    @property
    def reach(self) -> float:
        """Cosine similarity that memories of one persona have on average; with it, a memory is near."""
        ...

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.float64]:
        """A vector of length 1 a text, or of length 0 where it says nothing: texts × dimensions.

        Args:
            texts: of one domain.
            known: texts of that domain from which it may learn what words mean.
        """
        ...


class Sampler(Protocol):
    """A policy that writes: one adapter (or none) on one base model."""

    @property
    def name(self) -> str:
        """Identifies base and adapter by their content, whichever engine writes."""
        ...

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it, in order.

        Args:
            prompts: complete prompts, each a single user message.
            seeds: for each prompt, the seed of each of its texts. A text is a function of prompt, seed and
                decoding, whatever else is sampled in the same call.
            decoding: how to write; greedy decoding makes no use of seeds.
        """
        ...
