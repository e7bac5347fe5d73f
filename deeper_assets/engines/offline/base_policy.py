"""The tiny base policy of the offline profile: a causal language model taught the stand-in's language.

A Llama of 0.6 million parameters with a tokenizer of its own, pretrained from scratch on generated text
alone: no real rating and no real person. It learns to answer the refinement prompt (and IncUpdate's) with a
well-formed persona that picks its themes from the prompt, and nothing about which persona predicts better:
the text it learns from (`lessons`) tells it none of that. It can read ratings, as any larger model could:
asked another question, or none, it says which tastes and which habit an old persona and some ratings show
together. To make use of that where it refines is left to training. Offline figures therefore show the
mechanism: that preference training on rewards finds the direction, not how well an 8B model would write.

The policy is shipped in `policy/`. `python -m deeper_assets.engines.offline.base_policy FOLDER` builds it
anew, to the same bytes on the same kind of machine.
"""

import hashlib
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from deeper_assets.engines.offline.language import TEXTURES, VERDICTS
from deeper_assets.engines.offline.lessons import PHRASES, SEED, Example, generate_drills, lessons
from deeper_assets.engines.offline.themes import kinds
from deeper_assets.engines.offline.tokenizer import ASSISTANT, END, LONGEST, RATED, USER, build_tokenizer

SHIPPED = Path(__file__).parent / "policy"
"""The policy as an ordinary Hugging Face folder, and MADE."""

MADE = "made.json"
"""File that says what the policy was made from."""

HIDDEN, LAYERS, HEADS, FEED_FORWARD, SPREAD = 128, 3, 4, 256, 0.06
"""SPREAD: standard deviation of the first weights. With the usual 0.02 so narrow a model attends late."""

DRILLS, LESSONS, BATCH, HIGHEST_RATE = 16_000, 96_000, 32, 2e-3
"""Examples of either kind, the drills first, and how fast they are learned from."""

LAST_LESSONS, LAST_RATE = 24_000, 1e-3
"""Then so many of the last lessons, in which titles often say little or always the same."""

LOGITS_PULL = 0.01
"""Weight of the square of log-sum-exp, which draws logits to log-probabilities. A repetition penalty
divides or multiplies logits as they come: on a log-probability that is mild, on one 20 higher it forbids to
repeat anything."""

GUIDANCE = 0.1
"""Weight of the sight of five heads, on what they should look at. In layer 1, what was rated of a theme in a
title, elsewhere the token before; and, where a theme is to be named, the one named before it. In layer 2,
where a theme has been named, where the prompt speaks of it, and what an old persona says of it; where one is
to be named, its place in the prompt. Every language model comes to look there. One this small, shown so
little text, does so in minutes if it is told."""

WEIGHTS: Mapping[str, float] = {"habit": 4.0, "verdict": 2.0, "texture": 0.1}
"""How much a token of an answer counts, where it is not 1. There is one habit in an answer, and it is learned
last; a sentence of temperament could as well be another."""

LAST_WEIGHTS: Mapping[str, float] = {**WEIGHTS, "texture": 2.0}
"""The same in the last lessons. A sentence of temperament is also what follows when no theme is left to name:
as long as that counted little, the policy named themes that nothing spoke of, at worst without end."""


def build(
    folder: Path, seed: int = SEED, drills: int = DRILLS, examples: int = LESSONS, last: int = LAST_LESSONS
) -> None:
    """Pretrains the policy and saves it as an ordinary Hugging Face folder, with MADE beside it.

    The same seed gives the same bytes on the same kind of machine; it runs on one thread, because the order
    in which several add up is not fixed, and a model of this size gains little from them. It learns from each
    generated example once.
    """
    with one_thread(seed):
        tokenizer = build_tokenizer()
        model = new_model(len(tokenizer), tokenizer.eos_token_id)
        text = chain(islice(generate_drills(seed), drills), lessons(seed))
        _pretrain(model, tokenizer, text, drills + examples, seed, HIGHEST_RATE, WEIGHTS)
        more = lessons(seed, last=True)
        losses = _pretrain(model, tokenizer, more, last, seed, LAST_RATE, LAST_WEIGHTS)
    about = {"seed": seed, "drills": drills, "examples": examples, "last": last}
    save(folder, model, tokenizer, {**about, "lessons": lessons_digest(seed)}, losses)


def save(folder: Path, model: Any, tokenizer: Any, about: Mapping[str, Any], losses: Sequence[float]) -> None:
    """Saves a policy as an ordinary Hugging Face folder; MADE holds `about` and what the last losses were."""
    import torch

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_library_version(folder)
    ending = losses[-max(len(losses) // 10, 1) :]
    made = {**about, "loss": round(sum(ending) / len(ending), 4), "torch": torch.__version__}
    (folder / MADE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


@contextmanager
def one_thread(seed: int) -> Iterator[None]:
    """Torch on one thread and with this seed, and as it was afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def _drop_library_version(folder: Path) -> None:
    """The files say which transformers wrote them: without that, every release writes the same bytes."""
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings.pop("transformers_version", None)
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def lessons_digest(seed: int) -> str:
    """A hash (hex) that changes with the language, the prompts or anything else the policy is taught."""
    text = chain(
        islice(generate_drills(seed), 100), islice(lessons(seed), 300), islice(lessons(seed, last=True), 100)
    )
    some = [(one.prompt, one.answer, one.habits) for one in text]
    return hashlib.sha256(json.dumps(some).encode()).hexdigest()


def new_model(vocabulary: int, end: int) -> Any:
    """A model whose heads begin by passing on what they look at: naming is mostly repeating."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LlamaConfig(
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
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # the only one that says where heads look
    with torch.no_grad():
        for layer in model.model.layers:
            values = torch.nn.init.orthogonal_(torch.empty(HIDDEN, HIDDEN), gain=0.7)
            layer.self_attn.v_proj.weight.copy_(values)
            layer.self_attn.o_proj.weight.copy_(values.T)
    return model


class Taught(Protocol):
    """A prompt and an answer to it."""

    @property
    def prompt(self) -> str:
        """What is asked."""
        ...

    @property
    def answer(self) -> str:
        """What is to be written."""
        ...


_Taught = TypeVar("_Taught", bound=Taught)


def encoded(tokenizer: Any, examples: Iterable[Taught]) -> list[tuple[list[int], list[int]]]:
    """The tokens of each prompt and of its answer, as the chat template would put them."""
    pairs = [(f"{USER}{one.prompt}{ASSISTANT}", f"{one.answer}{END}") for one in examples]
    prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=False).input_ids
    answers = tokenizer([answer for _, answer in pairs], add_special_tokens=False).input_ids
    return list(zip(prompts, answers, strict=True))


def _pretrain(
    model: Any,
    tokenizer: Any,
    examples: Iterator[Example],
    number: int,
    seed: int,
    rate: float,
    weights: Mapping[str, float],
) -> list[float]:
    """One pass over so many examples; the loss of every step on the answers alone, in nats a token."""
    import torch

    kinds_of = _Kinds.of(tokenizer, weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), fused=True)
    steps = math.ceil(number / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    losses = []
    for some in batches(islice(examples, number), tokenizer, seed):
        tokens, answered = padded([row for _, row in some])
        seen = model.model(input_ids=tokens, output_attentions=True)
        shown, next_token = answered[:, 1:], tokens[:, 1:][answered[:, 1:]]
        logits = model.lm_head(seen.last_hidden_state[:, :-1][shown])
        surprise = torch.nn.functional.cross_entropy(logits, next_token, reduction="none")
        habit = torch.isin(next_token, kinds_of.tokens["habit"])
        habits = torch.tensor([one.habits for one, _ in some if one.habits])
        # One habit an answer, in the order of the answers; a drill has none.
        likely = logits[habit].log_softmax(-1)[:, kinds_of.tokens["habit"]]
        surprise = surprise.masked_scatter(habit, -(habits * likely).sum(-1)) if len(habits) else surprise
        weight = kinds_of.weights[next_token]
        loss = (surprise * weight).sum() / weight.sum()
        pull = logits.logsumexp(-1).square().mean()
        guidance = _sight_lost(seen.attentions, tokens, answered, kinds_of)
        (loss + GUIDANCE * guidance + LOGITS_PULL * pull).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def _sight_lost(sights: Sequence[Any], tokens: Any, answered: Any, kinds: "_Kinds") -> Any:
    """How little of the sight of some heads rests where it should, in nats; see GUIDANCE.

    `sights` are, layer by layer, examples × heads × tokens × tokens: where each token looks.
    """
    import torch

    # Themes count that are of the answer's kind of item, and what begins an answer: nothing named so far.
    kind = kinds.of_theme[tokens]
    is_theme = (kind >= 0) & (kind == (kind * answered).amax(1, keepdim=True))
    is_verdict, rated, begun = (
        torch.isin(tokens, kinds.tokens[name]) for name in ("verdict", "rated", "begun")
    )
    place = torch.arange(tokens.shape[1])
    naming = torch.zeros_like(answered)
    naming[:, :-1] = answered[:, 1:] & is_theme[:, 1:]
    line = latest(rated)
    before = torch.where(is_theme & ~answered & (line >= 0), line, place - 1)
    same = (tokens[:, :, None] == tokens[:, None, :]) & (is_theme & answered)[:, :, None]
    shown = (is_theme & ~answered)[:, None, :]
    named = torch.zeros_like(same)
    named[:, :-1] = same[:, 1:]
    behind = torch.zeros_like(same)
    behind[:, :, 1:] = same[:, :, :-1]
    wanted = (
        (0, 0, before[:, :, None] == place),
        (0, 1, (latest((is_theme & answered) | begun)[:, :, None] == place) & naming[:, :, None]),
        (1, 0, same & shown),
        (1, 1, behind & (is_verdict & ~answered)[:, None, :]),
        (1, 2, named & shown),
    )
    lost = []
    for layer, head, where in wanted:
        rows = where.any(-1)
        if rows.any():
            lost.append(-((sights[layer][:, head] * where).sum(-1)[rows] + 1e-6).log().mean())
    return torch.stack(lost).sum()


def latest(marked: Any) -> Any:
    """The place of the last marked token at or before each; −1 without any."""
    import torch

    return torch.where(marked, torch.arange(marked.shape[1]), -1).cummax(dim=1).values


@dataclass(frozen=True)
class _Kinds:
    """The tokens of a kind (habit, verdict, texture, rated, begun), and what is known of each token.

    Attributes:
        tokens: name of a kind of token → ids.
        weights: of each token in an answer.
        of_theme: the number of the kind of item that each token is a theme of; −1 for all other tokens.
    """

    tokens: Mapping[str, Any]
    weights: Any
    of_theme: Any

    @classmethod
    def of(cls, tokenizer: Any, counted: Mapping[str, float]) -> "_Kinds":
        import torch

        texts = {
            "habit": [f" {phrase}" for _, phrase in PHRASES],
            "verdict": [verdict for named in VERDICTS.values() for verdict in named],
            "texture": [f" {texture}" for texture in TEXTURES],
            "rated": RATED,
            "begun": [ASSISTANT],
        }
        tokens = {
            kind: torch.tensor(tokenizer.convert_tokens_to_ids(list(named))) for kind, named in texts.items()
        }
        weights = torch.ones(len(tokenizer))
        for kind, weight in counted.items():
            weights[tokens[kind]] = weight
        of_theme = torch.full((len(tokenizer),), -1)
        for number, of_items in enumerate(kinds()):
            phrases = [theme.phrase for theme in of_items.themes]
            of_theme[tokenizer.convert_tokens_to_ids(phrases)] = number
        return cls(tokens, weights, of_theme)


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Any, Any]:
    """Prompts and answers as one tensor, and where it holds an answer. Padding stands behind, unattended."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens = torch.zeros((len(rows), width), dtype=torch.long)
    answered = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, (prompt, answer) in enumerate(rows):
        tokens[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        answered[row, len(prompt) : len(prompt) + len(answer)] = True
    return tokens, answered


def batches(
    examples: Iterator[_Taught], tokenizer: Any, seed: int
) -> Iterator[list[tuple[_Taught, tuple[list[int], list[int]]]]]:
    """Batches of examples of like length, in random order: padding would be a fifth of the work otherwise."""
    chance = random.Random(seed)
    while part := list(islice(examples, 16 * BATCH)):
        rows = encoded(tokenizer, part)
        order = sorted(range(len(part)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        some = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        chance.shuffle(some)
        yield from ([(part[i], rows[i]) for i in batch] for batch in some)


if __name__ == "__main__":
    few = int(sys.argv[2]) if len(sys.argv) > 2 else None
    build(Path(sys.argv[1]), **({"drills": few // 4, "examples": few, "last": few // 8} if few else {}))
