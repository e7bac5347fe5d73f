"""The tiny base policy of the offline profile: a causal language model taught the stand-in's language.

A Llama of 0.3 million parameters with a tokenizer of its own, pretrained from scratch on generated text
alone: no real rating and no real person. It learns to answer the refinement prompt (and IncUpdate's) with a
well-formed persona that picks its themes from the prompt, and nothing about which persona predicts better:
the text it learns from (`lessons`) tells it none of that. It can read ratings, as any larger model could. To
make use of that where it refines is left to training. Offline figures therefore show the mechanism: that
preference training on rewards finds the direction, not how well an 8B model would write.

The policy is shipped in `policy/`. `python -m deeper_assets.engines.offline.base_policy FOLDER` builds it
anew, in some minutes, to the same bytes on the same kind of machine.
"""

import hashlib
import json
import random
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from deeper_assets.engines.offline.lessons import PHRASES, SEED, Example, lessons
from deeper_assets.engines.offline.tokenizer import ASSISTANT, END, LONGEST, USER, build_tokenizer

NAME = "offline-policy-1"
SHIPPED = Path(__file__).parent / "policy"
"""The policy as an ordinary Hugging Face folder, and MADE."""

MADE = "made.json"
"""File that says what the policy was made from."""

HIDDEN, LAYERS, HEADS, FEED_FORWARD, SPREAD = 96, 2, 4, 256, 0.06
"""SPREAD: standard deviation of the first weights. With the usual 0.02 so narrow a model attends late."""

EXAMPLES, BATCH, HIGHEST_RATE = 80_000, 32, 4e-3

LOGITS_PULL = 0.01
"""Weight of the square of log-sum-exp, which draws logits to log-probabilities. A repetition penalty
divides or multiplies logits as they come: on a log-probability that is mild, on one 20 higher it forbids to
repeat anything."""

PROMPT_SHARE = 0.3
"""Weight of predicting the prompts. Ratings of one person lie together, and predictions follow from the old
persona: a model that reads prompts learns both. What to make of them, no answer tells."""

HABIT_WEIGHT = 4.0
"""Weight of the token that says the habit: there is one in an answer, and it is learned last."""


def build(folder: Path, seed: int = SEED, examples: int = EXAMPLES) -> None:
    """Pretrains the policy and saves it as an ordinary Hugging Face folder, with MADE beside it.

    The same seed gives the same bytes on the same kind of machine; it runs on one thread, because the order
    in which several add up is not fixed, and a model of this size gains little from them. It learns from each
    generated example once.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer = build_tokenizer()
            model = _new_model(len(tokenizer), tokenizer.eos_token_id)
            losses = _pretrain(model, tokenizer, list(islice(lessons(seed), examples)), seed)
    finally:
        torch.set_num_threads(before)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_library_version(folder)
    last = losses[-max(len(losses) // 10, 1) :]
    made = {
        "name": NAME,
        "seed": seed,
        "examples": examples,
        "lessons": lessons_digest(seed),
        "loss": round(sum(last) / len(last), 4),
        "torch": torch.__version__,
    }
    (folder / MADE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _drop_library_version(folder: Path) -> None:
    """The files say which transformers wrote them: without that, every release writes the same bytes."""
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings.pop("transformers_version", None)
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def lessons_digest(seed: int) -> str:
    """A hash (hex) that changes with the language, the prompts or anything else the policy is taught."""
    some = [(one.prompt, one.answer, one.habits) for one in islice(lessons(seed), 300)]
    return hashlib.sha256(json.dumps(some).encode()).hexdigest()


def _new_model(vocabulary: int, end: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            intermediate_size=FEED_FORWARD,
            initializer_range=SPREAD,
            max_position_embeddings=LONGEST,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def _encoded(tokenizer: Any, examples: Iterable[Example]) -> list[tuple[list[int], list[int]]]:
    """The tokens of each prompt and of its answer, as the chat template would put them."""
    pairs = [(f"{USER}{one.prompt}{ASSISTANT}", f"{one.answer}{END}") for one in examples]
    prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=False).input_ids
    answers = tokenizer([answer for _, answer in pairs], add_special_tokens=False).input_ids
    return list(zip(prompts, answers, strict=True))


def _pretrain(model: Any, tokenizer: Any, examples: Sequence[Example], seed: int) -> list[float]:
    """One pass over the examples; the loss of every step on the answers alone, in nats a token."""
    import torch

    rows = _encoded(tokenizer, examples)
    habits = torch.tensor([one.habits for one in examples])
    habit_tokens = torch.tensor(tokenizer.convert_tokens_to_ids([f" {phrase}" for _, phrase in PHRASES]))
    batches = _batches([len(prompt) + len(answer) for prompt, answer in rows], seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=HIGHEST_RATE, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, HIGHEST_RATE, total_steps=len(batches), pct_start=0.1
    )
    losses = []
    for batch in batches:
        width = max(len(prompt) + len(answer) for prompt, answer in (rows[i] for i in batch))
        tokens = torch.zeros((len(batch), width), dtype=torch.long)
        answered, written = (torch.zeros((len(batch), width), dtype=torch.bool) for _ in range(2))
        for row, (prompt, answer) in enumerate(rows[i] for i in batch):
            tokens[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            written[row, : len(prompt) + len(answer)] = True
            answered[row, len(prompt) : len(prompt) + len(answer)] = True
        # Padding stands behind, where nothing attends to it.
        hidden = model.model(input_ids=tokens).last_hidden_state[:, :-1]
        shown = written[:, 1:]
        logits, next_token = model.lm_head(hidden[shown]), tokens[:, 1:][shown]
        in_answer = answered[:, 1:][shown]
        surprise = torch.nn.functional.cross_entropy(logits, next_token, reduction="none")
        habit = in_answer & torch.isin(next_token, habit_tokens)
        example = torch.tensor(batch).unsqueeze(1).expand(-1, width - 1)[shown][habit]
        likely = logits[habit].log_softmax(-1)[:, habit_tokens]
        surprise = surprise.masked_scatter(habit, -(habits[example] * likely).sum(-1))
        weight = torch.where(habit, HABIT_WEIGHT, 1.0)[in_answer]
        loss = (surprise[in_answer] * weight).sum() / weight.sum()
        pull = logits.logsumexp(-1).square().mean()
        (loss + PROMPT_SHARE * surprise[~in_answer].mean() + LOGITS_PULL * pull).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def _batches(lengths: Sequence[int], seed: int) -> list[list[int]]:
    """Batches of examples of like length, in random order: padding would be a fifth of the work otherwise."""
    chance = random.Random(seed)
    batches = []
    for start in range(0, len(lengths), 16 * BATCH):
        part = sorted(range(start, min(start + 16 * BATCH, len(lengths))), key=lengths.__getitem__)
        some = [part[i : i + BATCH] for i in range(0, len(part), BATCH)]
        chance.shuffle(some)
        batches += some
    return batches


if __name__ == "__main__":
    build(Path(sys.argv[1]), **({"examples": int(sys.argv[2])} if len(sys.argv) > 2 else {}))
