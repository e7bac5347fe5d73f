"""Engines that count and do not work: what `deeper estimate` plays the declared assets with.

A persona that they write is a placeholder, which says how many tokens the real text would have. So a prompt's
tokens are the counted ones around its placeholders, and those that its placeholders state. Predicted ratings
are real JSON, whose marks are drawn from the scale.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.offline.word_vectors import WordVectors
from deeper_assets.engines.token_counts import TokenCount
from deeper_assets.graph import Graph
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.paper_users import PERSONA_TOKENS
from deeper_assets.method.protocols import Answer, Decoding, Embedder, Sample
from deeper_assets.resources import Experiment, Objective, Trained
from deeper_assets.store.ledger import Partition
from deeper_assets.values import Tools, Values

Made = tuple[str, str]
"""A table, and the recipe or method that it is made for; empty where there is none."""


@dataclass
class Amount:
    """How much of one kind: requests, texts or examples, and their tokens."""

    count: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def add(self, count: float, tokens_in: float, tokens_out: float = 0.0) -> None:
        """Adds so much."""
        self.count += count
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out

    @property
    def rounded(self) -> tuple[int, int, int]:
        """Count, tokens in, tokens out."""
        return round(self.count), round(self.tokens_in), round(self.tokens_out)


Amounts = dict[Made, Amount]


def _amounts() -> Amounts:
    return defaultdict(Amount)


@dataclass
class Tally:
    """Where counting engines write down what they are asked.

    Attributes:
        made: what is being made.
        weight: how many users each of its users stands for.
        requests, texts, examples: of the chat model, of policies, of trainings.
        embedded: texts that an embedder gets; of a domain, once for all its inducers.
        weights: of each prompt that a policy was given.
    """

    made: Made = ("", "")
    weight: float = 1.0
    requests: Amounts = field(default_factory=_amounts)
    texts: Amounts = field(default_factory=_amounts)
    examples: Amounts = field(default_factory=_amounts)
    embedded: Amounts = field(default_factory=_amounts)
    weights: dict[str, float] = field(default_factory=dict)
    embedded_domains: set[str] = field(default_factory=set)


# ------------------------------------------------------------------------------------------ counted texts

_PERSONA = re.compile(r"persona [a-p]{16} of ([\d.]+) tokens")
_OLD = re.compile(rf"<((?:long_term_)?persona)>\n{_PERSONA.pattern}")
_ITEMS = re.compile(r"<items>\n(.*?)\n</items>", re.DOTALL)
_OF_PEOPLE = re.compile(r"<(events|memories|claims)>\n")
_GROUPS = re.compile(r"<groups>\n(.*?)\n</groups>", re.DOTALL)
CLAIM_TOKENS = 40.0
"""Of the description of one persona of a set: one or two sentences."""

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_WRITTEN_BY_CHAT = {"persona": "inc_update", "long_term_persona": "hier_merge"}
"""Block of the old persona in a prompt to the chat model → the method that updates it."""


def persona(number: int, tokens: float) -> str:
    """What stands for a persona of so many tokens; other numbers (64 bits) are other texts."""
    return f"persona {f'{number:016x}'.translate(_LETTERS)} of {tokens:g} tokens"


def counting(count: Callable[[str], int]) -> Callable[[str], float]:
    """A way to count that takes personas for the texts that they stand for.

    What prompts have beside personas comes again and again, and is counted once.
    """
    known = cache(count)

    def tokens(text: str) -> float:
        return known(_PERSONA.sub("", text)) + sum(map(float, _PERSONA.findall(text)))

    return tokens


def _next_length(prompt: str, series: Callable[[str], Sequence[float]]) -> float:
    """Tokens of the persona that follows the one in the prompt; of the first where there is none."""
    old = _OLD.search(prompt)
    if old is None:
        return PERSONA_TOKENS["deeper"][0]
    lengths = series(old[1])
    return next((tokens for tokens in lengths if tokens > float(old[2])), lengths[-1])


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")


# ----------------------------------------------------------------------------------------------- engines


@dataclass(frozen=True)
class CountingChat:
    """A chat model whose answers are readable, and as long as answers are.

    Attributes:
        tally: where it counts.
        tokens: how.
        frame: tokens that a request or prompt has beside its text.
        by_schema: whether a request carries the schema of its answer.
    """

    tally: Tally
    tokens: Callable[[str], float]
    frame: int
    by_schema: bool
    name: str = "counting"

    def answer(
        self,
        prompts: Sequence[str],
        *,
        attempt: int = 0,  # noqa: ARG002
        schema: Mapping[str, Any] | None = None,
    ) -> list[Answer]:
        """See `ChatModel.answer`. All items of one answer are rated alike, by a hash of the prompt."""
        amount, weight = self.tally.requests[self.tally.made], self.tally.weight
        around = self.frame + (self.tokens(_json(schema)) if schema and self.by_schema else 0)
        answers = []
        for prompt in prompts:
            text = _ratings(prompt, schema) if schema else _read_by_stand_in(prompt) or _updated(prompt)
            amount.add(weight, weight * (around + self.tokens(prompt)), weight * self.tokens(text))
            answers.append(Answer(text))
        return answers


def _read_by_stand_in(prompt: str) -> str | None:
    """What the stand-in says of a session, of a persona's memories or of claims; None for any other prompt.

    Placeholders would not do: which memories make a persona follows from what they say.
    """
    if not _OF_PEOPLE.search(prompt):
        return None
    (answer,) = OfflineChatModel().answer([prompt])
    return answer.text


def _updated(prompt: str) -> str:
    length = _next_length(prompt, lambda block: PERSONA_TOKENS[_WRITTEN_BY_CHAT[block]])
    return persona(_number(prompt), length)


def _ratings(prompt: str, schema: Mapping[str, Any]) -> str:
    """JSON without spaces, in the form of the schema."""
    rating = schema["properties"]["ratings"]["items"]["properties"]["rating"]
    marks = rating.get("enum") or [rating["minimum"], rating["maximum"]]
    mark = marks[_number(prompt) % len(marks)]
    items = _ITEMS.search(prompt)
    titles = [line.removeprefix("- ") for line in items[1].split("\n")] if items else []
    return _json({"ratings": [{"item": title, "rating": mark} for title in titles]})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass
class CountingSampler:
    """A policy whose texts all differ, and are as long as the paper's; every policy is this one.

    `shares` gives the share of a table's texts that can be used (where there is none, all can). See
    `CountingChat` for the other attributes.
    """

    tally: Tally
    tokens: Callable[[str], float]
    frame: int
    shares: Mapping[str, Fraction]
    name: str = "counting"
    engine: str = "counting"
    _written: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def sampler(self, base: pd.DataFrame, adapter: pd.DataFrame | None = None) -> "CountingSampler":  # noqa: ARG002
        """See `resources.Samplers`."""
        return self

    def policy_sampler(self, policies: pd.DataFrame) -> "CountingSampler":  # noqa: ARG002
        """See `resources.Samplers`."""
        return self

    def set_sampler(self, policies: pd.DataFrame) -> "CountingSampler":  # noqa: ARG002
        """See `resources.Samplers`."""
        return self

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """See `Sampler.sample`. Texts that cannot be used, or repeat others, pass for ones that were cut."""
        amount, weight = self.tally.texts[self.tally.made], self.tally.weight
        samples = []
        for prompt, wanted in zip(prompts, seeds, strict=True):
            self.tally.weights[prompt] = weight
            read = self.frame + self.tokens(prompt)
            texts = [self._text(prompt, seed, float(decoding.max_new_tokens)) for seed in wanted]
            written = sum(length for _, length in texts)
            amount.add(weight * len(wanted), weight * read, weight * written)
            samples.append([Sample(text, round(length), self._usable()) for text, length in texts])
        return samples

    def _text(self, prompt: str, seed: int, most: float) -> tuple[str, float]:
        """A text and its tokens: a persona as long as the paper's, or a set of about half of the groups."""
        groups = _GROUPS.search(prompt)
        if groups is None:
            length = min(_next_length(prompt, lambda _: PERSONA_TOKENS["deeper"]), most)
            return persona(seed, length), length
        own = {i: _number(f"{seed} {i}") for i in range(1, groups[1].count("\n") + 2)}
        text = json.dumps(
            [
                {"groups": [i], "label": "a label", "description": persona(number, CLAIM_TOKENS)}
                for i, number in own.items()
                if number % 2
            ]
        )
        return text, min(self.tokens(text), most)

    def _usable(self) -> bool:
        """Whether the next text is: of n texts of a table, the share of n, rounded down, spread evenly."""
        table = self.tally.made[0]
        share, written = self.shares.get(table, Fraction(1)), self._written[table]
        self._written[table] += 1
        return int(share * (written + 1)) > int(share * written)


@dataclass(frozen=True)
class CountingEmbedder:
    """An embedder that counts the texts of a domain, and gives the vectors of the default one."""

    tally: Tally
    tokens: Callable[[str], float]
    domain: str
    inner: WordVectors = field(default_factory=WordVectors)

    @property
    def name(self) -> str:
        """See `Embedder`."""
        return self.inner.name

    @property
    def reach(self) -> float:
        """See `Embedder`."""
        return self.inner.reach

    def embed(self, texts: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.float64]:
        """See `Embedder.embed`. `known` texts are among the texts."""
        if self.domain not in self.tally.embedded_domains:
            self.tally.embedded_domains.add(self.domain)
            weight = self.tally.weight
            read = sum(map(self.tokens, texts))
            self.tally.embedded[self.tally.made[0], ""].add(weight * len(texts), weight * read)
        return self.inner.embed(texts, known)


@dataclass(frozen=True)
class CountingTrainer:
    """A trainer that counts its examples, and gives an adapter without files."""

    tally: Tally
    tokens: Callable[[str], float]

    def train(
        self,
        name: str,  # noqa: ARG002
        base: pd.DataFrame,  # noqa: ARG002
        start: pd.DataFrame | None,  # noqa: ARG002
        examples: pd.DataFrame,
        objective: Objective,
    ) -> Trained:
        """See `resources.Trainer`. An example is a prompt, read once, and the texts that it compares.

        Of all examples, those that validate are taken off by their share: few users may have none, or many.
        """
        amount = self.tally.examples[self.tally.made]
        texts = [column for column in ("chosen", "rejected", "completion") if column in examples]
        for _, example in examples.groupby(examples.get("group", examples.index).to_numpy()):
            prompt = str(example["prompt"].iloc[0])
            weight = self.tally.weights[prompt] * (1 - objective.training.validation_share)
            length = self.tokens(prompt) + sum(map(self.tokens, example[texts].to_numpy().flat))
            amount.add(weight, weight * length)
        rows = pd.DataFrame(columns=["file", "content", "size", "sha256"])
        return Trained(rows, {"trained": len(examples)}, [])


# ------------------------------------------------------------------------------------------------- graph


@dataclass(frozen=True)
class _CountingValues(Values):
    model: CountingChat

    def chat(self, _: Partition) -> ChatSetup:
        return replace(self.experiment.chat, model=self.model)

    def embedder(self, partition: Partition) -> Embedder:
        return CountingEmbedder(self.model.tally, self.model.tokens, partition["domain"])


@dataclass(frozen=True)
class _CountingTools(Tools):
    policies: CountingSampler
    training: CountingTrainer

    @property
    def samplers(self) -> CountingSampler:
        return self.policies

    @property
    def trainer(self) -> CountingTrainer:
        return self.training


def counting_graph(
    experiment: Experiment,
    tally: Tally,
    chat: TokenCount,
    policy: TokenCount,
    by_schema: bool,
    shares: Mapping[str, Fraction],
) -> Graph:
    """The graph of an experiment with engines that count in `tally`, by the tokens of `chat` and `policy`.

    See `CountingChat` for `by_schema`, and `CountingSampler` for `shares`.
    """
    read = counting(policy.count)
    model = CountingChat(tally, counting(chat.count), chat.frame, by_schema)
    sampler = CountingSampler(tally, read, policy.frame, shares)
    return Graph(
        _CountingValues(experiment, model),
        _CountingTools(experiment, sampler, CountingTrainer(tally, read)),
    )
