"""What the method asks of whatever computes: small protocols, no imports beyond typing.

Engines implement them structurally, so nothing has to inherit from anything. The protocols of the training
half (sampler, trainer) join this file together with their first implementation.
"""

from collections.abc import Sequence
from typing import Protocol


class ChatModel(Protocol):
    """A frozen chat model: prompts in, text out."""

    @property
    def name(self) -> str:
        """Identifies the model and everything that shapes its answers; part of every fingerprint."""
        ...

    def answer(self, prompts: Sequence[str], *, attempt: int = 0) -> list[str | None]:
        """Answers each prompt, in order.

        Args:
            prompts: complete prompts, each a single user message.
            attempt: 0 for the first time these prompts are asked, then 1, 2, … for repeated questions.

        Returns:
            One text a prompt; None where the model gave no answer (a refusal, an empty reply).
        """
        ...
