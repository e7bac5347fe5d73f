"""A language model of a few thousand random weights, with a tokenizer of whole words, and how it trains."""

from pathlib import Path

from deeper_assets.method.recipes import Training

WORDS = [
    "who", "are", "you", "?", "i", "like", "dislike", "films", "teas",
    "cakes", "and", "much", "often", "never", "a", "the", "very",
]  # fmt: skip

TINY_TRAINING = Training(
    beta=0.5,
    lora_rank=4,
    lora_alpha=8,
    lora_dropout=0.0,
    max_length=64,
    batch_size=4,
    examples_at_once=2,
    learning_rate=0.02,
    warmup=0.1,
    epochs=2.0,
    evaluate_every=4,
    bf16=False,
)


def save_tiny_policy(folder: Path, hidden: int = 32, seed: int = 0) -> Path:
    """Saves a random Llama as an ordinary Hugging Face folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<eos>", "<user>", "<assistant>"]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=(
            "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <eos> {% endfor %}"
            "{% if add_generation_prompt %}<assistant> {% endif %}"
        ),
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
