"""The tiny base policy of the offline profile: a causal language model taught the stand-in's language.

A Llama of 0.3 million parameters with a tokenizer of its own, pretrained from scratch on generated text
alone: no real rating and no real person. It learns to answer the refinement prompt (and IncUpdate's) with a
well-formed persona that picks its themes from the prompt, and nothing about which persona predicts better:
in these answers, degrees of taste and the habit of marking have nothing to do with any rating. Exercises
teach it to read: asked what habit ratings show, it says so, as any larger model could. To make use of that
where it refines is left to training. Offline figures therefore show the mechanism: that preference training
on rewards finds the direction, not how well an 8B model would write.

Sampling on a CPU pays by the token, so the tokenizer has whole phrases of the language as tokens, and is
blind to title words that signal no theme: a prompt of 200 words comes down to about 60 tokens, a persona of
80 words to about 20.

The policy is shipped in `policy/`. `python -m deeper_assets.engines.offline.base_policy FOLDER` builds it
anew, in some minutes, to the same bytes on the same kind of machine.
"""

import hashlib
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from deeper_assets.engines.offline.chat_model import predicted_rating
from deeper_assets.engines.offline.language import (
    HABIT_SENTENCES,
    HABITS,
    OPENING,
    REASONS,
    REMARK_SENTENCE,
    REMARKS,
    TASTES,
    TEXTURES,
    Reading,
    habit_sentence,
    render,
)
from deeper_assets.engines.offline.themes import LITERAL, Kind, kinds
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.prompts import BUILT_IN, Prompts, RatedItem

NAME = "offline-policy-1"
SHIPPED = Path(__file__).parent / "policy"
"""The policy as an ordinary Hugging Face folder, and MADE."""

MADE = "made.json"
"""File that says what the policy was made from."""

SEED = 1
HIDDEN, LAYERS, HEADS, FEED_FORWARD, SPREAD = 96, 2, 4, 256, 0.06
"""SPREAD: standard deviation of the first weights. With the usual 0.02 so narrow a model attends late."""

LONGEST = 1024
"""Tokens of prompt and persona together that the model has positions for."""

EXAMPLES, BATCH, HIGHEST_RATE = 80_000, 32, 4e-3

LOGITS_PULL = 0.01
"""Weight of the square of log-sum-exp, which draws logits to log-probabilities. A repetition penalty
divides or multiplies logits as they come: on a log-probability that is mild, on one 20 higher it forbids to
repeat anything."""

PROMPT_SHARE = 0.3
"""Weight of predicting the prompts. Ratings of one person lie together, and predictions follow from the old
persona: a model that reads prompts learns both. What to make of them, no answer tells."""

EXERCISES = 0.35
"""Share of the examples that ask what habit ratings show and are answered in a sentence."""

HABIT_WEIGHT = 4.0
"""Weight of the token that says the habit: there is one in an answer, and it is learned last."""

KEEPS_HABIT = 0.1
"""Share of personas that repeat the old one's habit; the rest say any, whatever the ratings are."""

GOES_WITH = 3.0
"""Times as likely is a habit where the old persona has the sentence of temperament that it goes with. Were
all equally likely everywhere, the same few would be likelier by a hair, and nothing else would ever be
sampled with a small top_p. So other ones come first for every person, and all are tried."""

PLAIN_HABIT, PLAIN_WEIGHT = HABITS[0.625][0], 1.3 * GOES_WITH
"""What the stand-in assumes of whoever has no habit, likelier than any other: decoded greedily, the untrained
policy changes little by it."""

_END, _USER, _ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message.role == 'user' %}}{_USER}{{{{ message.content }}}}"
    f"{{% else %}}{_ASSISTANT}{{{{ message.content }}}}{_END}{{% endif %}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{_ASSISTANT}{{% endif %}}"
)

_SCALES = (Scale(1, 5, 1), Scale(0.5, 5, 0.5), Scale(1, 10, 1))
_NUMBERS = tuple(f"{half / 2:g}" for half in range(21))
_HABITS = [(level, phrase) for level, named in HABITS.items() for phrase in named]
_QUESTION = "\n\nHow does this person mark? Answer in one sentence."
_PERSONA_END = "</persona>\n\n"
_PLACEHOLDER = re.compile(r"\$\w+")


# ------------------------------------------------------------------------------------------- tokenizer


@cache
def phrases() -> tuple[str, ...]:
    """The language's fixed phrases, with the spaces around them: each becomes one token."""
    patterns = [*HABIT_SENTENCES, REMARK_SENTENCE, OPENING, *REASONS, *TEXTURES]
    patterns += [pattern for named in TASTES.values() for pattern in named]
    patterns += [BUILT_IN["refinement"], BUILT_IN["inc_update"], _QUESTION, *_LINES]
    found = [part for pattern in patterns for part in _PLACEHOLDER.split(pattern)]
    found += [f" {phrase}" for named in HABITS.values() for phrase in named] + list(REMARKS.values())
    found += [kind.person for kind in kinds()] + [one for kind in kinds() for one in kind.item_types]
    found += [text for kind in kinds() for theme in kind.themes for text in (theme.phrase, theme.why)]
    found += [LITERAL, ", ", ", and ", " as well as ", *(str(scale) for scale in _SCALES)]
    # What begins a sentence takes the space before it along. At the end of the one before, a space would
    # tell that another follows, and the choice of a sentence would be the choice to go on.
    found += [f" {text}" for text in found if text[:1].isupper()]
    return tuple(dict.fromkeys(text for text in found if text.strip()))


_LINES: tuple[str, ...] = (
    "<persona>\n",
    "\n</persona>",
    "<comparison>\n",
    "\n</comparison>",
    "<ratings>\n",
    "\n</ratings>",
)
_LINES += tuple(f"{said}{mark}\n" for said in (", actual ", ": rated ") for mark in _NUMBERS)
_LINES += tuple(f": predicted {mark}" for mark in _NUMBERS)


@cache
def words() -> tuple[str, ...]:
    """The title words it knows: a few for each theme, and those that make a theme of their own.

    All of them would be four times as many tokens, and half of the work of training would go to tokens that
    no persona ever holds.
    """
    signals = {word for kind in kinds() for theme in kind.themes for word in theme.foremost}
    return tuple(sorted(signals | {word for kind in kinds() for word in kind.words or ()}))


def build_tokenizer() -> Any:
    """A tokenizer of phrases, numbers and title words; whatever else stands in a text it does not see."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<|unknown|>", _END, _USER, _ASSISTANT, *words()]
    vocabulary = {text: i for i, text in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    some_word = "|".join(sorted(map(re.escape, words()), key=len, reverse=True))
    pattern = Regex(rf"\b(?:{some_word})(?=(?:'?s|es)?\b)")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in (_END, _USER, _ASSISTANT)]
    )
    tokenizer.add_tokens(
        [
            AddedToken(text, normalized=False, single_word=text[0].isalnum() and text[-1].isalnum())
            for text in phrases()
        ]
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        eos_token=_END,
        pad_token=_END,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


# ------------------------------------------------------------------------------- the text it learns from


@dataclass(frozen=True)
class Example:
    """A generated prompt and an answer to it.

    Attributes:
        prompt: ends where the answer begins.
        answer: a persona or, in an exercise, the sentence of a habit.
        habits: how likely each phrase of HABITS would have been said in this answer; they sum to 1. Learning
            from these, not from the one that was drawn, leaves no phrase likelier than another by chance.
    """

    prompt: str
    answer: str
    habits: tuple[float, ...]


def lessons(seed: int) -> Iterator[Example]:
    """Refinements and exercises without end, as the policy is taught them."""
    chance = random.Random(seed)
    refinements, exercises = generate(chance.getrandbits(32)), generate_exercises(chance.getrandbits(32))
    while True:
        yield next(exercises if chance.random() < EXERCISES else refinements)


def generate(seed: int) -> Iterator[Example]:
    """Generated prompts and refined personas. Nothing in an answer depends on a rating of its prompt."""
    chance = random.Random(seed)
    while True:
        case = _Case.of(chance)
        prompt = case.prompt(chance)
        person = case.kind.person
        tastes = render(_new_tastes(case.old, case.shown, chance), person, chance.getrandbits(32))
        habits = _habits_after(case.old.habit, case.persona)
        habit = chance.choices(_HABITS, habits)[0][1]
        sentence = habit_sentence(habit, person, chance.getrandbits(32))
        yield Example(prompt, f"{tastes} {sentence}", habits)


def generate_exercises(seed: int) -> Iterator[Example]:
    """Ratings, and the sentence that says which habit they show: the level nearest to their mean."""
    chance = random.Random(seed)
    while True:
        case = _Case.of(chance)
        prompt = case.prompt(chance)
        # The ratings, without the old persona before them and what is asked for after them.
        ratings = prompt[prompt.index(_PERSONA_END) + len(_PERSONA_END) : prompt.rindex("\n\n")]
        scale = case.domain.scale
        mean = sum(item.rating for item in case.window) / len(case.window)
        shown = (mean - scale.lowest) / (scale.highest - scale.lowest)
        level = min(HABITS, key=lambda level: abs(level - shown))
        habits = tuple((said == level) / len(HABITS[level]) for said, _ in _HABITS)
        habit = chance.choice(HABITS[level])
        yield Example(
            ratings + _QUESTION, habit_sentence(habit, case.kind.person, chance.getrandbits(32)), habits
        )


@dataclass(frozen=True)
class _Case:
    """What one prompt is made of: a person's old persona, and a window with what was predicted of it."""

    kind: Kind
    domain: Domain
    window: list[RatedItem]
    shown: list[str]
    old: Reading
    persona: str
    predicted: list[float]

    @classmethod
    def of(cls, chance: random.Random) -> "_Case":
        kind, scale = chance.choice(kinds()), chance.choices(_SCALES, (2, 1, 0.3))[0]
        domain = Domain("generated", chance.choice(kind.item_types), scale, seen=True)
        window, shown = _window(kind, scale, chance)
        old = _old_reading(kind, chance)
        persona = render(old, kind.person, chance.getrandbits(32))
        predicted = [predicted_rating(old, item.title, scale) for item in window]
        return cls(kind, domain, window, shown, old, persona, predicted)

    def prompt(self, chance: random.Random) -> str:
        """That of refinement or, less often, IncUpdate's."""
        prompts = Prompts()
        if chance.random() < 0.75:
            return prompts.refinement(self.domain, self.persona, self.window, self.predicted)
        return prompts.inc_update(self.domain, self.persona, self.window)


def _window(kind: Kind, scale: Scale, chance: random.Random) -> tuple[list[RatedItem], list[str]]:
    """Ten rated items (sometimes fewer), and the themes their titles signal."""
    level, shown = chance.random(), []
    window = []
    for _ in range(10 if chance.random() < 0.8 else chance.randint(4, 9)):
        title = []
        for theme in chance.choices(kind.themes, k=chance.choice((0, 1, 1, 2))):
            title.append(chance.choice(theme.foremost or ("-",)))
            shown.append(theme.phrase)
        window.append(RatedItem(" ".join(title) or "-", _mark(scale, level, chance)))
    return window, list(dict.fromkeys(shown))


def _mark(scale: Scale, level: float, chance: random.Random) -> float:
    around = min(max(chance.gauss(level, 0.15), 0), 1)
    return scale.nearest(scale.lowest + around * (scale.highest - scale.lowest))


def _old_reading(kind: Kind, chance: random.Random) -> Reading:
    named = [theme.phrase for theme in chance.sample(kind.themes, k=chance.randint(0, 8))]
    if kind.words and chance.random() < 0.3:
        named.insert(0, LITERAL + chance.choice(sorted(kind.words)))
    return Reading.of(_degrees(named, chance), _any_habit(chance) if chance.random() < 0.6 else None)


def _new_tastes(old: Reading, shown: Sequence[str], chance: random.Random) -> Reading:
    """Some themes of the old persona and of the titles, in degrees drawn anew."""
    kept = {theme: degree for theme, degree in old.degrees.items() if chance.random() < 0.6}
    new = [theme for theme in shown if theme not in old.degrees]
    taken = _degrees(chance.sample(new, k=min(len(new), chance.choice((0, 1, 2)))), chance)
    return Reading.of({**kept, **taken})


def _habits_after(old: str | None, persona: str) -> tuple[float, ...]:
    """How likely each habit is said of whom `persona` was said: nothing in it comes from a rating."""
    weights = [
        PLAIN_WEIGHT if habit == PLAIN_HABIT else GOES_WITH if _goes_with()[habit] in persona else 1.0
        for _, habit in _HABITS
    ]
    kept = [KEEPS_HABIT * (phrase == old) for _, phrase in _HABITS]
    rest = (1 - sum(kept)) / sum(weights)
    return tuple(keep + rest * weight for keep, weight in zip(kept, weights, strict=True))


@cache
def _goes_with() -> dict[str, str]:
    """Habit → the texture it goes with; every texture has as many."""
    mixed = random.Random(SEED).sample(_HABITS, k=len(_HABITS))
    return {habit: TEXTURES[i % len(TEXTURES)] for i, (_, habit) in enumerate(mixed)}


def _any_habit(chance: random.Random) -> str:
    if chance.random() < 0.15:
        return chance.choice(list(REMARKS.values()))
    return chance.choice(_HABITS)[1]


def _degrees(named: Iterable[str], chance: random.Random) -> dict[str, int]:
    return {theme: chance.choice((2, 1, 1, -1, -2)) for theme in named}


# ------------------------------------------------------------------------------------------ pretraining


def build(folder: Path, seed: int = SEED, examples: int = EXAMPLES) -> None:
    """Pretrains the policy and saves it as an ordinary Hugging Face folder, with MADE beside it.

    The same seed gives the same bytes on the same kind of machine; it runs on one thread, because the order
    in which several add up is not fixed, and a model of this size gains little from them.

    Args:
        folder: where to; made if it is not there.
        seed: of weights and text.
        examples: how many generated ones it learns from, each once.
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


def _encoded(tokenizer: Any, examples: Iterable["Example"]) -> list[tuple[list[int], list[int]]]:
    """The tokens of each prompt and of its answer, as the chat template would put them."""
    pairs = [(f"{_USER}{one.prompt}{_ASSISTANT}", f"{one.answer}{_END}") for one in examples]
    prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=False).input_ids
    answers = tokenizer([answer for _, answer in pairs], add_special_tokens=False).input_ids
    return list(zip(prompts, answers, strict=True))


def _pretrain(model: Any, tokenizer: Any, examples: Sequence[Example], seed: int) -> list[float]:
    """One pass over the examples; the loss of every step on the answers alone, in nats a token."""
    import torch

    rows = _encoded(tokenizer, examples)
    habits = torch.tensor([one.habits for one in examples])
    habit_tokens = torch.tensor(tokenizer.convert_tokens_to_ids([f" {phrase}" for _, phrase in _HABITS]))
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
        logits, next_token, said = model.lm_head(hidden[shown]), tokens[:, 1:][shown], answered[:, 1:][shown]
        surprise = torch.nn.functional.cross_entropy(logits, next_token, reduction="none")
        habit = said & torch.isin(next_token, habit_tokens)
        example = torch.tensor(batch).unsqueeze(1).expand(-1, width - 1)[shown][habit]
        likely = logits[habit].log_softmax(-1)[:, habit_tokens]
        surprise = surprise.masked_scatter(habit, -(habits[example] * likely).sum(-1))
        weight = torch.where(habit, HABIT_WEIGHT, 1.0)[said]
        loss = (surprise[said] * weight).sum() / weight.sum()
        pull = logits.logsumexp(-1).square().mean()
        (loss + PROMPT_SHARE * surprise[~said].mean() + LOGITS_PULL * pull).backward()
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
