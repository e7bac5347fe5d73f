"""vLLM servers that are replicas of one base model: which of them writes what, and what becomes of failures.

Adapters are loaded into each of them when they are needed. Texts of a prompt go to the same replica, which
has read it already, or to the freest if that is busy. What fails for a moment is asked again, a little later,
of whoever is there; a server that was restarted is given its adapter anew.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from deeper_assets.engines import http
from deeper_assets.engines.sampling import gpu
from deeper_assets.engines.sampling.shapes import Card, Cards, Texts
from deeper_assets.engines.secrets import scrubbed
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.method.protocols import Decoding

T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)

BOUNDS = http.Bounds(600.0, 2**22)
"""Of a text, with room for 100,000 tokens, and of the time in which an adapter is loaded."""

TRIES = 12
"""How often a text is asked for that fails for a moment: for about a minute, if no server is there."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds until it is asked for again, at most: at first, and after many times."""

PASSING = http.PASSING | {404}
"""Statuses that another try may change. 404: a server that was restarted has lost its adapter."""

PASSING_AT_FIRST = PASSING - {404, 500}
"""The same, when a server is asked what it serves, and to load an adapter: 500 says that it does not fit."""

LOOK = 0.5
"""Seconds between two looks at a server that is being started."""


@dataclass(frozen=True)
class Endpoint:
    """A server as its clients see it.

    Attributes:
        url: with /v1.
        key: that it wants; None for none.
        key_env: environment variable that the key is from.
        check: for a server that somebody starts, and starts again: raises a DeeperError once it has ended for
            good. None for one that may be away without anybody's doing.
    """

    url: str
    key: str | None = None
    key_env: str = "VLLM_API_KEY"
    check: Callable[[], None] | None = None


@dataclass(frozen=True)
class Request:
    """One text: its prompt's number and tokens, the tokens it may have, and its seed."""

    place: int
    prompt: Sequence[int]
    room: int
    seed: int


@dataclass(frozen=True)
class Adapter:
    """An adapter: what it is called, by its content, and where it lies."""

    name: str
    folder: Path


@asynccontextmanager
async def serving(
    base: str, adapter: Adapter | None, endpoints: Sequence[Endpoint], concurrency: int
) -> AsyncIterator["Replicas"]:
    """The servers at these places, until the block ends; `concurrency` is requests at once to each.

    They must serve `base` (a folder or hub name), and the adapter on it if there is one.
    """
    from openai import AsyncOpenAI

    from deeper_assets.engines.bounded_client import BoundedClient, time_limits

    async with AsyncExitStack() as clients:
        replicas = []
        for at in endpoints:
            # What is started here is on this machine, and no proxy's.
            client = AsyncOpenAI(
                base_url=at.url,
                api_key=at.key or "none",
                timeout=time_limits(BOUNDS.seconds),
                max_retries=0,
                http_client=BoundedClient(lambda _: BOUNDS, trust_env=at.check is None),
            )
            replicas.append(Replica(at, await clients.enter_async_context(client), base, adapter))
        yield Replicas(replicas, concurrency)


@dataclass
class Replicas:
    """The servers, and who of them is free."""

    all: Sequence["Replica"]
    concurrency: int
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def max_length(self) -> int:
        """Tokens of prompt and text that the model takes, by the first server that is there."""

        async def length_of(replica: Replica) -> int:
            return replica.max_length

        return await self._ask(0, length_of)

    async def write(self, wanted: Sequence[Request], decoding: Decoding) -> list[tuple[list[int], bool]]:
        """Tokens of each text, and whether it came to an end."""
        written: list[tuple[list[int], bool]] = [([], False)] * len(wanted)

        async def write(left: Iterator[tuple[int, Request]]) -> None:
            for at, request in left:
                written[at] = await self._ask(
                    request.place, partial(Replica.complete, request=request, decoding=decoding)
                )

        left = iter(enumerate(wanted))
        try:
            async with asyncio.TaskGroup() as writers:
                for _ in range(min(self.concurrency * len(self.all), len(wanted))):
                    writers.create_task(write(left))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return written

    async def _ask(self, place: int, question: "Callable[[Replica], Awaitable[T]]") -> T:
        """What a server says; while that fails for a moment, asked again of whoever is there."""
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(TRIES),
                wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
                retry=retry_if_exception(_passes),
                reraise=True,
            ):
                with attempt:
                    async with self._free(place) as replica:
                        return await question(replica)
        except Exception as error:
            if not _passes(error):
                raise
            troubles = "; ".join(f"{one.url}: {one.trouble}" for one in self.all if one.trouble)
            given = any(one.endpoint.check is None for one in self.all)
            where = "see that those of sampler.urls run" if given else f"see gpu/{gpu.LOG} in the home"
            raise DeeperError(
                f"no vLLM server gives an answer ({troubles}); {where}, and run again"
            ) from None
        raise AssertionError("tenacity gives up by an exception")

    @asynccontextmanager
    async def _free(self, place: int) -> "AsyncIterator[Replica]":
        """A server with room for one more request, while it is made; one that fails then rests a while."""
        async with self.changed:
            while (replica := self._best(place)) is None:
                await self.changed.wait()
            replica.used += 1
        try:
            await replica.get_ready()
            yield replica
            replica.failures = 0
        except Exception as error:
            if _passes(error):
                replica.rest(error)
            raise
        finally:
            replica.used -= 1
            async with self.changed:
                self.changed.notify()

    def _best(self, place: int) -> "Replica | None":
        """The server that has read the prompt if it has room, else the freest; None while none has."""
        awake = [replica for replica in self.all if not replica.rests] or self.all
        free = [replica for replica in awake if replica.used < self.concurrency]
        preferred = self.all[place % len(self.all)]
        return preferred if preferred in free else min(free, key=lambda replica: replica.used, default=None)


@dataclass(eq=False)
class Replica:
    """One server.

    Attributes:
        client: openai's AsyncOpenAI, which speaks with it.
        used: requests it has at the moment.
        failures: how often in a row it failed for a moment.
        trouble: what it failed of.
        rests_until: the loop's time when it is asked again, unless there is no other.
        model: what requests call the base or adapter; None until it is known to serve it.
        max_length: tokens of prompt and text that it takes.
    """

    endpoint: Endpoint
    client: Any
    base: str
    adapter: Adapter | None
    used: int = 0
    failures: int = 0
    trouble: str = ""
    rests_until: float = 0.0
    model: str | None = None
    max_length: int = 0
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.endpoint.url

    @property
    def rests(self) -> bool:
        """Whether it is left alone at the moment."""
        return asyncio.get_running_loop().time() < self.rests_until

    def rest(self, error: Exception) -> None:
        """Leaves it alone for a while, and then sees anew what it serves: it may have been restarted."""
        self.model = None
        # The client's own words for a lost connection say less than their cause.
        cause = error.__cause__ or error
        ours = isinstance(cause, http.NotTakenError | _UnusableError)
        self.trouble = self._words(str(cause) if ours else one_line(cause))
        if not self.rests:  # what was under way fails together, and counts once
            self.failures += 1
            pause = min(FIRST_WAIT * 2**self.failures, LONGEST_WAIT)
            self.rests_until = asyncio.get_running_loop().time() + pause * random.uniform(0.5, 1)

    async def get_ready(self) -> None:
        """Sees that it serves the base, and loads the adapter unless it has it."""
        async with self.alone:
            if self.model is None:
                served = await self._served()
                base = self._base_among(served)
                self.max_length = base.max_model_len or 0
                if self.adapter is None:
                    self.model = base.id
                else:
                    if self.adapter.name not in {card.id for card in served}:
                        await self._load(self.adapter)
                    self.model = self.adapter.name

    async def _served(self) -> list[Card]:
        """Cards of what it serves, once it is there if somebody starts it."""
        from openai import APIConnectionError

        while True:
            try:
                with self._refusals(PASSING_AT_FIRST):
                    answer = await self.client.models.with_raw_response.list()
                    return _read(Cards, answer.content).data
            except APIConnectionError:
                if self.endpoint.check is None:
                    raise
                self.endpoint.check()
                await asyncio.sleep(LOOK)

    async def complete(self, request: Request, decoding: Decoding) -> tuple[list[int], bool]:
        """Tokens of one text, and whether it came to an end."""
        with self._refusals():
            answer = await self.client.completions.with_raw_response.create(
                model=str(self.model),
                prompt=list(request.prompt),
                seed=request.seed,
                max_tokens=request.room,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                extra_body={
                    # Told too, or vLLM would take the model's own defaults: both are off.
                    "top_k": 0,
                    "min_p": 0.0,
                    "repetition_penalty": decoding.repetition_penalty,
                    "return_token_ids": True,
                },
            )
        (text,) = _read(Texts, answer.content).choices
        if text.token_ids is None:
            raise DeeperError(f"the server {self.url} gives no token ids; it has to be vLLM 0.11 or newer")
        if text.finish_reason not in {"stop", "length"}:
            raise _UnusableError(f"it broke a text off ({text.finish_reason})")
        if len(text.token_ids) > request.room:
            raise _UnusableError(f"it wrote {len(text.token_ids)} tokens, and {request.room} were allowed")
        return text.token_ids, text.finish_reason == "stop"

    def _base_among(self, served: Sequence[Card]) -> Card:
        """The card of the base. Its folder may lie elsewhere there, so the last part of a path counts."""
        bases = [card for card in served if card.parent is None and card.max_model_len]
        name = self.base.rstrip("/").rsplit("/", 1)[-1]
        for card in bases:
            if name in {place.rstrip("/").rsplit("/", 1)[-1] for place in (card.id, card.root or "")}:
                return card
        names = self._words(", ".join(card.id for card in bases)) or "no model of vLLM's"
        raise DeeperError(
            f"the vLLM server {self.url} serves {names}, but the policy is {self.base}; start it with that"
            f" model, or with --served-model-name {name} if it is the same"
        )

    async def _load(self, adapter: Adapter) -> None:
        place = str(adapter.folder.resolve())
        try:
            with self._refusals(PASSING_AT_FIRST):
                await self.client.post(
                    "/load_lora_adapter", cast_to=str, body={"lora_name": adapter.name, "lora_path": place}
                )
        except _RefusedError as error:
            refusal = str(error)
            if "already been loaded" in refusal:  # by another process, just now
                return
            if "No adapter found" in refusal:
                hint = "it must be able to read that folder, under the same path"
            elif error.status == 404:
                hint = "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
            else:
                hint = "see that it was started with --enable-lora, and a --max-lora-rank that is high enough"
            raise DeeperError(f"{refusal} (loading the adapter {place}); {hint}") from error

    @contextmanager
    def _refusals(self, passing: Set[int] = PASSING) -> Iterator[None]:
        """Makes an error for people of what another try would not change."""
        from openai import APIStatusError

        try:
            yield
        except APIStatusError as error:
            if error.status_code in passing:
                raise
            hint = ""
            if error.status_code in {401, 403}:
                hint = f"; put its key in the environment variable {self.endpoint.key_env} (sampler.key_env)"
            elif error.status_code == 404 and not self.url.endswith("/v1"):
                hint = "; the urls of vLLM servers end in /v1"
            refusal = self._words(error.message)
            # Not `from error`: a traceback would quote the server's answer, which may hold the key.
            text = f"the vLLM server {self.url} refuses: {refusal}{hint}"
            raise _RefusedError(text, error.status_code) from None

    def _words(self, text: str) -> str:
        """What a server says, without its key, and not all of a page."""
        return http.glimpse(scrubbed(text, self.endpoint.key, self.endpoint.key_env), 300)


class _RefusedError(DeeperError):
    """What another try would not change; `status` is the HTTP status of the answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _UnusableError(Exception):
    """An answer of no use: a text that a stopped server broke off, or one of another shape."""


def _read(shape: type[Shape], content: bytes) -> Shape:
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        other = http.other_shape(error, content)
    raise _UnusableError(other)


def _passes(error: BaseException) -> bool:
    """Whether another try may go better: a refusal that does not pass is a DeeperError already."""
    from openai import APIConnectionError, APIStatusError

    return isinstance(error, APIConnectionError | APIStatusError | _UnusableError)
