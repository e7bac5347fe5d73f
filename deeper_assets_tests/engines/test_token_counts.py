"""Tokens counted by the tokenizers that models have; known encodings are from OpenAI's own documentation."""

from pathlib import Path

import bpe_openai
import pytest

from deeper_assets.engines.offline import base_policy
from deeper_assets.engines.token_counts import CHAT_FRAME, chat_tokens, policy_tokens


@pytest.mark.parametrize(
    ("encoding", "text", "tokens"),
    [
        ("o200k_base", "antidisestablishmentarianism", [493, 129901, 376, 160388, 21203, 2367]),
        ("o200k_base", "2 + 2 = 4", [17, 659, 220, 17, 314, 220, 19]),
        ("o200k_base", "お誕生日おめでとう", [8930, 9697, 243, 128225, 8930, 17693, 4344, 48669]),
        ("cl100k_base", "antidisestablishmentarianism", [519, 85342, 34500, 479, 8997, 2191]),
        ("cl100k_base", "2 + 2 = 4", [17, 489, 220, 17, 284, 220, 19]),
        ("cl100k_base", "お誕生日おめでとう", [33334, 45918, 243, 21990, 9080, 33334, 62004, 16556, 78699]),
    ],
)
def test_the_bundled_encodings_are_openais(encoding: str, text: str, tokens: list[int]) -> None:
    assert bpe_openai.get_encoding(encoding).encode_ordinary(text) == tokens


@pytest.mark.parametrize(
    ("model", "encoding", "tokens"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base", 8),
        ("gpt-4.1-nano", "o200k_base", 8),
        ("gpt-4-turbo", "cl100k_base", 9),
        ("gpt-3.5-turbo-0125", "cl100k_base", 9),
    ],
)
def test_a_models_encoding_goes_by_its_name(model: str, encoding: str, tokens: int) -> None:
    counted = chat_tokens(model)
    assert counted.note == f"chat tokens are counted by {encoding}, the encoding of {model}"
    assert (counted.count("お誕生日おめでとう"), counted.frame) == (tokens, CHAT_FRAME)


def test_of_another_chat_model_it_is_said_that_the_count_is_rough() -> None:
    assert "qwen may have another tokenizer" in chat_tokens("qwen").note


def test_a_policys_prompt_has_the_tokens_that_its_sampler_reads() -> None:
    from transformers import AutoTokenizer

    counted = policy_tokens("offline")
    prompt = "With tender tales of courtship, fondness shows."
    read = AutoTokenizer.from_pretrained(base_policy.SHIPPED).apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert counted.count(prompt) + counted.frame == len(read)
    assert counted.note == "policy tokens are counted by the tokenizer of offline"


def test_a_policy_that_is_not_here_is_counted_roughly(tmp_path: Path) -> None:
    counted = policy_tokens(str(tmp_path))
    assert "has no tokenizer on this machine" in counted.note
    assert counted.count("お誕生日おめでとう") == 8
