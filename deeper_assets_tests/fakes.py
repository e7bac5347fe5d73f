"""Tiny stand-ins that implement a protocol in process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.method.protocols import Answer, Decoding, Sample


class ScriptedChat:
    """A chat model that answers by a function of prompt and attempt, and remembers what it was asked."""

    name = "scripted-1"

    def __init__(self, answer: Callable[[str, int], str | None]):
        self._answer = answer
        self.asked: list[tuple[str, int]] = []

    def answer(
        self, prompts: Sequence[str], *, attempt: int = 0, schema: Mapping[str, Any] | None = None
    ) -> list[Answer]:
        self.asked += [(prompt, attempt) for prompt in prompts]
        said = [self._answer(prompt, attempt) for prompt in prompts]
        return [Answer(text) if text is not None else Answer(None, "no_answer") for text in said]


class ScriptedSampler:
    """A policy that writes by a function of prompt and seed, and remembers every call."""

    name = "scripted-policy-1"

    def __init__(self, write: Callable[[str, int], Sample]):
        self._write = write
        self.calls: list[tuple[list[str], list[list[int]], Decoding]] = []

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        self.calls.append((list(prompts), [list(of) for of in seeds], decoding))
        return [[self._write(prompt, seed) for seed in of] for prompt, of in zip(prompts, seeds, strict=True)]


class CountedStandIn:
    """The offline stand-in, which counts what it is asked."""

    def __init__(self) -> None:
        self.inner, self.asked = OfflineChatModel(), 0
        self.name = self.inner.name

    def answer(
        self, prompts: Sequence[str], *, attempt: int = 0, schema: Mapping[str, Any] | None = None
    ) -> list[Answer]:
        self.asked += len(prompts)
        return self.inner.answer(prompts, attempt=attempt, schema=schema)
