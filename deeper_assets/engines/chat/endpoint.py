"""Where a chat model is, how it is asked and what it costs.

`Endpoint` holds the settings, and what follows from them without asking anybody: the body of a request, its
key in the journal, the most that it may cost, and what an answer means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from deeper_assets.engines.chat.entries import Entry, Key, request_key
from deeper_assets.engines.chat.served import ANYWAY, Served
from deeper_assets.engines.chat.shapes import Completion, Problem
from deeper_assets.engines.http import Bounds
from deeper_assets.engines.secrets import without_key

_WRAPPING = 16
"""Tokens around a message, at most."""

_A_TOKEN = 2**7
"""Bytes that an answer may have for each token. Tokens have four bytes or so, also as JSON."""

OF_A_FILE = Bounds(3600.0, 500_000_000)
"""For a file of a batch, there or back: 50,000 answers of 10 kB."""

_OF_THE_PROMPT = {
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "context_length_exceeded": "rejected",
    "string_above_max_length": "rejected",
    "invalid_prompt": "rejected",
}
"""Error codes of status 400 that are about one prompt, not about how we ask → the reason of its answer."""

Price: TypeAlias = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Prices:
    """What a chat model costs, US dollars a million tokens.

    Attributes:
        input, output: of prompts and of answers.
        cached_input: of tokens that the server had read before; None where they cost the same.
        batch_share: what a request in a batch costs, as a share of that.
    """

    input: Price
    output: Price
    cached_input: Price | None = None
    batch_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    def cost(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> float:
        """US dollars of one answer, asked for live."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = (input_tokens - cached_tokens) * self.input + cached_tokens * cached
        return (fresh + output_tokens * self.output) / 1e6


class Endpoint(Served):
    """A frozen chat model behind an OpenAI-compatible endpoint."""

    setting: ClassVar[str] = "chat"

    model: str = Field("gpt-4o-mini-2024-07-18", description="what the endpoint calls it")
    mode: Literal["live", "batch"] = Field("live", description="batch: half the price, up to a day's wait")
    temperature: float = Field(0.0, ge=0, description="0: the answer that it thinks best")
    max_tokens: int = Field(1024, ge=1, description="an answer is cut after as many tokens, and unreadable")
    structured: bool = Field(True, description="ask for JSON by schema where the endpoint knows how")
    prices: Prices | None = Field(None, description="null: unknown; `max_cost_usd` needs them")
    batch_requests: int = Field(50_000, ge=1, description="requests a batch file, at most")
    batch_poll: float = Field(30.0, gt=0, description="seconds between looks at a batch")

    def body(self, prompt: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        """The request for one prompt, but for the endpoint and the key."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt.encode(errors="replace").decode()}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if schema is not None:
            form = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def key(self, body: Mapping[str, Any], attempt: int) -> Key:
        """What the journal knows a request by."""
        return request_key(self.base_url, body), attempt

    def most_usd(self, body: Mapping[str, Any], *, in_batch: bool = False) -> float | None:
        """The most that a request can cost: no token is shorter than a byte, and answers are cut.

        None where prices are not known.
        """
        size = sum(len(message["content"].encode()) + _WRAPPING for message in body["messages"])
        size += len(str(body.get("response_format", "")))
        return self._usd(size, 0, self.max_tokens, in_batch)

    def entry(self, completion: Completion, *, in_batch: bool = False) -> Entry:
        """What the endpoint answered, as an entry of the journal.

        Its cost is None where prices are not known, or the endpoint counts no tokens that could be believed.
        """
        usage, cost = completion.usage, None
        counts = (0, 0, 0)
        if usage is not None:
            counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            cost = self._usd(*counts, in_batch)
        text, reason = _text_and_reason(completion)
        if text is not None:
            text = without_key(text, self._key, self.key_env, telling=True)
        return Entry(text, reason, *counts, cost)

    def refusal(self, problem: Problem) -> Entry | None:
        """An error of status 400 that is about the prompt, as an entry; None if it is not."""
        reason = _OF_THE_PROMPT.get(problem.code or "")
        return Entry(None, reason, 0, 0, 0, 0.0) if reason else None

    def bounds(self, path: str) -> Bounds:
        """What the answer at this path, below that of the endpoint, may take."""
        of_a_file = path.startswith("/files")
        return OF_A_FILE if of_a_file else Bounds(self.timeout, ANYWAY + _A_TOKEN * self.max_tokens)

    def _usd(self, input_tokens: int, cached_tokens: int, output_tokens: int, in_batch: bool) -> float | None:
        if self.prices is None:
            return None
        share = self.prices.batch_share if in_batch else 1.0
        return share * self.prices.cost(input_tokens, cached_tokens, output_tokens)


def _text_and_reason(completion: Completion) -> tuple[str | None, str | None]:
    """The text of a completion, and why it cannot be used; see `Entry`."""
    if not completion.choices:
        return None, "no_answer"
    choice = completion.choices[0]
    text = choice.message.content
    if choice.message.refusal:
        return choice.message.refusal, "refusal"
    if choice.finish_reason == "content_filter":
        return text, "content_filter"
    if choice.finish_reason == "length":
        return text, "cut_off"
    return (text, None) if text else (None, "no_answer")
