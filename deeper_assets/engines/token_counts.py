"""How many tokens a prompt has, by the tokenizer of the model that reads it."""

from collections.abc import Callable
from dataclasses import dataclass

from deeper_assets.engines.offline import base_policy

CHAT_FRAME = 7
"""Tokens that a chat model's format adds to a request of one message: marks, its role, the reply's start."""

_ENCODINGS = {
    "o200k_base": ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt-4o", "o1", "o3", "o4"),
    "cl100k_base": ("gpt-4", "gpt-3.5"),
}
"""Encoding → beginnings of the names of models that use it. The first encoding that fits counts."""

ANY_MODEL = "o200k_base"
"""The encoding for models whose own tokenizer is not on this machine."""


@dataclass(frozen=True)
class TokenCount:
    """A way to count.

    Attributes:
        count: tokens of a text.
        frame: tokens that a request of one message has beside its text.
        note: how it counts, in words for people.
    """

    count: Callable[[str], int]
    frame: int
    note: str


def chat_tokens(model: str) -> TokenCount:
    """How the tokens of a chat model, as its endpoint calls it, are counted: exactly for OpenAI's only."""
    for encoding, starts in _ENCODINGS.items():
        if model.startswith(starts):
            return _bundled(encoding, f"chat tokens are counted by {encoding}, the encoding of {model}")
    note = f"chat tokens are counted by {ANY_MODEL}; {model} may have another tokenizer, and other counts"
    return _bundled(ANY_MODEL, note)


def policy_tokens(policy: str) -> TokenCount:
    """How a policy's tokens are counted: by its own tokenizer, or roughly where that is not on this machine.

    Args:
        policy: `offline`, or a model's folder or hub name.
    """
    from transformers import AutoTokenizer

    place = base_policy.SHIPPED if policy == "offline" else policy
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        empty = tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
    except (OSError, ValueError):  # not here, damaged, or without a chat template
        note = f"policy tokens are counted by {ANY_MODEL}: {policy} has no tokenizer on this machine"
        return _bundled(ANY_MODEL, note)
    return TokenCount(
        lambda text: len(tokenizer(text, add_special_tokens=False).input_ids),
        len(empty),
        f"policy tokens are counted by the tokenizer of {policy}",
    )


def _bundled(encoding: str, note: str) -> TokenCount:
    import bpe_openai

    encode = bpe_openai.get_encoding(encoding).encode_ordinary
    return TokenCount(lambda text: len(encode(text)), CHAT_FRAME, note)
