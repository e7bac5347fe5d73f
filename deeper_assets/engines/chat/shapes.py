"""What is read of an endpoint's answers.

Only what has this shape is taken; all else in them is passed over.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WrapValidator

from deeper_assets.engines.http import Part, or_none

Count = Annotated[int, Field(ge=0, le=10**9)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
"""What a provider calls a file or batch; it becomes part of an address."""


class _InputTokens(Part):
    cached_tokens: Count = 0


class Usage(Part):
    """Tokens, as a server counts them."""

    prompt_tokens: Annotated[Count, Field(ge=1)]
    completion_tokens: Count
    prompt_tokens_details: Annotated[_InputTokens | None, WrapValidator(or_none)] = None

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, those that the server had read before."""
        details = self.prompt_tokens_details
        return min(self.prompt_tokens, details.cached_tokens) if details else 0


class _Message(Part):
    content: str | None = None
    refusal: str | None = None


class _Choice(Part):
    message: _Message
    finish_reason: str | None = None


class Completion(Part):
    """A chat completion. Its usage is None where it cannot be believed."""

    choices: list[_Choice]
    usage: Annotated[Usage | None, WrapValidator(or_none)] = None


class Problem(Part):
    """What an error says of itself."""

    code: Annotated[str | None, WrapValidator(or_none)] = None
    message: Annotated[str | None, WrapValidator(or_none)] = None


class ProblemBody(Part):
    """The body of an error, as OpenAI nests it; some servers do not."""

    error: Problem | str | None = None
    code: Annotated[str | None, WrapValidator(or_none)] = None
    message: Annotated[str | None, WrapValidator(or_none)] = None

    @property
    def problem(self) -> Problem:
        """The error itself."""
        if isinstance(self.error, str):
            return Problem(message=self.error)
        return self.error or Problem(code=self.code, message=self.message)


class StoredFile(Part):
    """A file that the provider keeps."""

    id: Id


class _BatchError(Part):
    code: str | None = None
    message: str | None = None


class _BatchErrors(Part):
    data: list[_BatchError] | None = None


_MaybeId = Annotated[Id | None, BeforeValidator(lambda value: value or None)]


class TheirBatch(Part):
    """A batch as the provider tells of it."""

    id: Id
    status: Literal[
        "validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
    ]
    output_file_id: _MaybeId = None
    error_file_id: _MaybeId = None
    errors: Annotated[_BatchErrors | None, WrapValidator(or_none)] = None


class ListedBatch(Part):
    """A batch in a list, ours or somebody else's."""

    id: Id
    metadata: dict[str, Any] | None = None


class BatchPage(Part):
    """Some of the batches, the latest first; None for one of another shape, which is not ours."""

    data: list[Annotated[ListedBatch | None, WrapValidator(or_none)]]
    has_more: bool = False


class LineResponse(Part):
    """What a line of a batch's result answers."""

    status_code: int | None = None
    body: dict[str, Any] | None = None


class BatchLine(Part):
    """A line of a batch's result: which request it answers, and how."""

    custom_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}-[0-9]{1,9}$")]
    response: LineResponse | None = None


class _EmbeddingUsage(Part):
    prompt_tokens: Annotated[Count, Field(ge=1)]


_Finite = Annotated[float, Field(strict=True, ge=-1e30, le=1e30)]
"""A number that a vector can hold in four bytes, and none that is made of a word or of yes and no."""


class _Embedding(Part):
    index: Annotated[int, Field(ge=0)]
    embedding: Annotated[list[_Finite], Field(min_length=1)]


class Embeddings(Part):
    """Vectors of texts. Their usage is None where it cannot be believed."""

    data: list[_Embedding]
    usage: Annotated[_EmbeddingUsage | None, WrapValidator(or_none)] = None
