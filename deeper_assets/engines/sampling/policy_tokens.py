"""How a policy's prompts become tokens, and its tokens texts: one way for both samplers.

vLLM is given tokens and gives tokens, so that a text differs from one engine to another only where the engine
chose another token, and never by a template, a special token or a space.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from deeper_assets.method.protocols import Decoding, Sample

LOG = logging.getLogger(__name__)


@lru_cache(maxsize=2)
def load_tokenizer(base: str) -> Any:
    """The tokenizer in a model's folder, or of a model on the hub."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def encode(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Tokens of each prompt as a user's message, up to where the answer begins."""
    messages = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        for prompt in prompts
    ]
    # The template has put special tokens where they belong.
    return list(tokenizer(messages, add_special_tokens=False).input_ids) if messages else []


def as_sample(tokenizer: Any, written: Sequence[int], ended: bool) -> Sample:
    """The text of the tokens that a policy wrote. Where it ended by itself, the last is the end token."""
    tokens = list(written[:-1] if ended else written)
    return Sample(tokenizer.decode(tokens, skip_special_tokens=True), len(tokens), ended)


def room_for(prompts: Sequence[Sequence[int]], max_length: int, max_new_tokens: int) -> list[int]:
    """How many tokens may be written after each prompt; 0 where the prompt leaves no room.

    A text without room is `UNWRITTEN`: it counts as cut, as one does that reaches `max_length`. How many
    prompts are so long is logged. `max_length` counts the tokens of prompt and text together.
    """
    room = [max(min(max_length - len(prompt), max_new_tokens), 0) for prompt in prompts]
    if without := room.count(0):
        LOG.warning(
            "%d of %d prompts have %d tokens or more, so nothing can be written after them; see the setting"
            " sampler.max_length, and how long a context the model takes",
            without,
            len(prompts),
            max_length,
        )
    return room


UNWRITTEN = Sample("", 0, finished=False)
"""What stands for a text that there was no room for."""


def seeds_to_draw(seeds: Sequence[int], decoding: Decoding) -> Sequence[int]:
    """The seeds of texts that differ: greedy decoding writes one for all."""
    return seeds[:1] if decoding.temperature == 0 else seeds


def for_each_seed(written: Sequence[Sample], seeds: int) -> list[Sample]:
    """The texts of one prompt: those written, or the one of greedy decoding, or none that had room."""
    if not written:
        return [UNWRITTEN] * seeds
    return list(written) if len(written) == seeds else [written[0]] * seeds
