"""Tiny stand-ins that implement a protocol in process."""

from collections.abc import Callable, Sequence


class ScriptedChat:
    """A chat model that answers by a function of prompt and attempt, and remembers what it was asked."""

    name = "scripted-1"

    def __init__(self, answer: Callable[[str, int], str | None]):
        self._answer = answer
        self.asked: list[tuple[str, int]] = []

    def answer(self, prompts: Sequence[str], *, attempt: int = 0) -> list[str | None]:
        self.asked += [(prompt, attempt) for prompt in prompts]
        return [self._answer(prompt, attempt) for prompt in prompts]
