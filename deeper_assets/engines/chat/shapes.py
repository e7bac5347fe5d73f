"""What is read of an endpoint's answers.

Only what has this shape is taken; all else in them is passed over.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator


def _or_none(value: Any, read: Any) -> Any:
    """None for what cannot be believed, where the rest of the answer is of use without it."""
    try:
        return read(value)
    except ValidationError:
        return None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


Count = Annotated[int, Field(ge=0, le=10**9)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
"""What a provider calls a file or batch; it becomes part of an address."""


class _InputTokens(_Part):
    cached_tokens: Count = 0


class Usage(_Part):
    """Tokens, as a server counts them."""

    prompt_tokens: Count
    completion_tokens: Count
    prompt_tokens_details: Annotated[_InputTokens | None, WrapValidator(_or_none)] = None

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, those that the server had read before."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0


class _Message(_Part):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Part):
    message: _Message
    finish_reason: str | None = None


class Completion(_Part):
    """A chat completion. Its usage is None where it cannot be believed."""

    choices: list[_Choice]
    usage: Annotated[Usage | None, WrapValidator(_or_none)] = None


class Problem(_Part):
    """What an error says of itself."""

    code: Annotated[str | None, WrapValidator(_or_none)] = None
    message: Annotated[str | None, WrapValidator(_or_none)] = None


class ProblemBody(_Part):
    """The body of an error, as OpenAI nests it; some servers do not."""

    error: Problem | str | None = None
    code: Annotated[str | None, WrapValidator(_or_none)] = None
    message: Annotated[str | None, WrapValidator(_or_none)] = None

    @property
    def problem(self) -> Problem:
        """The error itself."""
        if isinstance(self.error, str):
            return Problem(message=self.error)
        return self.error or Problem(code=self.code, message=self.message)


class StoredFile(_Part):
    """A file that the provider keeps."""

    id: Id


class _BatchError(_Part):
    code: str | None = None
    message: str | None = None


class _BatchErrors(_Part):
    data: list[_BatchError] | None = None


class TheirBatch(_Part):
    """A batch as the provider tells of it."""

    id: Id
    status: str
    output_file_id: Id | None = None
    error_file_id: Id | None = None
    errors: _BatchErrors | None = None
    metadata: dict[str, Any] | None = None


class BatchPage(_Part):
    """Some of the batches, the latest first."""

    data: list[TheirBatch]
    has_more: bool = False


class LineResponse(_Part):
    """What a line of a batch's result answers."""

    status_code: int | None = None
    body: dict[str, Any] | None = None


class BatchLine(_Part):
    """A line of a batch's result: which request it answers, and how."""

    custom_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}-[0-9]{1,9}$")]
    response: LineResponse | None = None
