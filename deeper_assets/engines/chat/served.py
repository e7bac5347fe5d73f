"""A model behind an OpenAI-compatible endpoint: where it is, how patiently it is asked, and its key."""

from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.http import Bounds, glimpse
from deeper_assets.engines.secrets import Address, VariableName, key_in, scrubbed
from deeper_assets.method.exceptions import DeeperError

OPENAI = "https://api.openai.com/v1"

ANYWAY = 2**18
"""Bytes that any answer may have."""


class Served(BaseModel):
    """A model that is asked over HTTP. Its key is in the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: ClassVar[str]
    """The name of these settings, for errors."""

    model: str
    base_url: Annotated[Address, BeforeValidator(lambda url: url or OPENAI)] = Field(
        OPENAI, description="of the endpoint, with /v1; null: OpenAI's own"
    )
    key_env: VariableName = Field(
        "OPENAI_API_KEY",
        description="environment variable that holds the key, if one is needed",
    )
    concurrency: int = Field(
        64, ge=1, description="requests at once, of one process; fewer while the server says 429"
    )
    timeout: float = Field(120.0, gt=0, description="seconds to wait for a whole answer")
    tries: int = Field(8, ge=1, description="how often a request that fails for a moment is sent")

    def client(self) -> Any:
        """An AsyncOpenAI client that tries nothing twice by itself: what is sent again has to be counted."""
        from openai import AsyncOpenAI

        from deeper_assets.engines.bounded_client import BoundedClient, time_limits

        key = self._key
        if not key and self.base_url == OPENAI:
            raise DeeperError(
                f"{self.model} needs a key: set the environment variable {self.key_env}, or"
                f" {self.setting}.base_url to an endpoint that needs none"
            )
        return AsyncOpenAI(
            api_key=key or "none",
            base_url=self.base_url,
            timeout=time_limits(self.timeout),
            max_retries=0,
            http_client=BoundedClient(lambda path: self.bounds(self._below(path))),
        )

    def bounds(self, path: str) -> Bounds:  # noqa: ARG002
        """What the answer at this path, below that of the endpoint, may take."""
        return Bounds(self.timeout, ANYWAY)

    def error(self, message: str) -> DeeperError:
        """The error that says which model failed, where, and why; without the key."""
        return DeeperError(scrubbed(f"{self.model} at {self.base_url}: {message}", self._key, self.key_env))

    def words(self, text: str) -> str:
        """What a server says, in one line, without the key, and not all of a page."""
        return glimpse(scrubbed(text, self._key, self.key_env), 400)

    def refuse_unknown_price(self, journal: Journal, known: bool, setting: str) -> None:
        """Refuses to ask under a cap where the price is not known, which `setting` would say.

        Raises:
            DeeperError: so it is.
        """
        if journal.cap_usd is not None and not known:
            raise DeeperError(
                f"max_cost_usd is {journal.cap_usd:g}, but what {self.model} costs is not known: set"
                f" {setting}"
            )

    @property
    def _key(self) -> str | None:
        return key_in(self.key_env)

    def _below(self, path: str) -> str:
        return path.removeprefix(urlsplit(self.base_url).path.rstrip("/"))
