"""The tiny policy that writes sets of personas offline: taught the form of an answer, and to read figures.

A Llama as small as `base_policy`, with a tokenizer of its own, pretrained from scratch on generated text
alone. It learns to answer the prompt `persona_set` with a well-formed set, and nothing about which set is
better: the text it learns from (`set_lessons`) keeps groups by chance. Offline figures therefore show that
preference training on rewards finds the direction, not how well a large model would write.

So small a model does not group memories itself: within ten minutes on a core, one like it did not learn to
list the numbers of twenty memories by theme. It gets groups, and says which of them are personas.

It is shipped in `policy_of_sets/`. `python -m deeper_assets.engines.offline.set_policy FOLDER` builds it
anew, to the same bytes on the same kind of machine.
"""

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from deeper_assets.engines.offline.base_policy import (
    BATCH,
    LOGITS_PULL,
    batches,
    latest,
    new_model,
    one_thread,
    padded,
    save,
)
from deeper_assets.engines.offline.set_lessons import OPENERS, SEED, fixed_phrases, set_lessons
from deeper_assets.engines.offline.themes import kinds
from deeper_assets.engines.offline.tokenizer import build_tokenizer
from deeper_assets.method.induction.writing import MOST_GROUPS

SHIPPED = Path(__file__).parent / "policy_of_sets"
"""The policy as an ordinary Hugging Face folder, and MADE."""

LESSONS, HIGHEST_RATE = 64_000, 2e-3
"""Examples, and how fast they are learned from."""

GUIDANCE = 0.1
"""Weight of the sight of five heads, on what they should look at. In layer 0, the beginning of the line that
a token stands in, and where a line's figures end, the two that are to be compared. In layer 1, where a number
is to be named, the end of that line's figures; and where a theme is to be named, the themes of that line."""


def build(folder: Path, seed: int = SEED, examples: int = LESSONS) -> None:
    """Pretrains the policy and saves it as an ordinary Hugging Face folder, with MADE beside it.

    The same seed gives the same bytes on the same kind of machine, on one thread.
    """
    with one_thread(seed):
        tokenizer = build_tokenizer(fixed_phrases())
        model = new_model(len(tokenizer), tokenizer.eos_token_id)
        losses = _pretrain(model, tokenizer, examples, seed)
    about = {"seed": seed, "examples": examples, "lessons": lessons_digest(seed)}
    save(folder, model, tokenizer, about, losses)


def lessons_digest(seed: int) -> str:
    """A hash (hex) that changes with the prompt, the language or anything else the policy is taught."""
    some = [(one.prompt, one.answer) for one in islice(set_lessons(seed), 300)]
    return hashlib.sha256(json.dumps(some).encode()).hexdigest()


def _pretrain(model: Any, tokenizer: Any, examples: int, seed: int) -> list[float]:
    """One pass over so many examples; the loss of every step on the answers alone, in nats a token."""
    import torch

    marks = _Marks.of(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=HIGHEST_RATE, betas=(0.9, 0.98), fused=True)
    steps = math.ceil(examples / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, HIGHEST_RATE, total_steps=steps, pct_start=0.1)
    losses = []
    for some in batches(islice(set_lessons(seed), examples), tokenizer, seed):
        tokens, answered = padded([row for _, row in some])
        seen = model.model(input_ids=tokens, output_attentions=True)
        shown, following = answered[:, 1:], tokens[:, 1:][answered[:, 1:]]
        logits = model.lm_head(seen.last_hidden_state[:, :-1][shown])
        loss = torch.nn.functional.cross_entropy(logits, following)
        pull = logits.logsumexp(-1).square().mean()
        guidance = _sight_lost(seen.attentions, tokens, answered, marks)
        (loss + GUIDANCE * guidance + LOGITS_PULL * pull).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


@dataclass(frozen=True)
class _Marks:
    """What tokens are: tensors by token id.

    Attributes:
        begins: of the token that begins the line of a group, its number; 0 of all others.
        number: of a number from 1 to MOST_GROUPS, itself; 0 of all others.
        ends: whether it ends the figures of a line.
        theme: whether it is a theme.
        names: whether a theme of the persona's own follows it.
    """

    begins: Any
    number: Any
    ends: Any
    theme: Any
    names: Any

    @classmethod
    def of(cls, tokenizer: Any) -> "_Marks":
        import torch

        begins, number = (torch.zeros(len(tokenizer), dtype=torch.long) for _ in range(2))
        ends, theme, names = (torch.zeros(len(tokenizer), dtype=torch.bool) for _ in range(3))
        for one in range(1, MOST_GROUPS + 1):
            begins[tokenizer.convert_tokens_to_ids(f"- {one} (")] = one
            number[tokenizer.convert_tokens_to_ids(str(one))] = one
        ends[tokenizer.convert_tokens_to_ids(" % of others): ")] = True
        phrases = [one.phrase for kind in kinds() for one in kind.themes]
        theme[tokenizer.convert_tokens_to_ids(phrases)] = True
        before = ['], "label": "', *(f"{opener} " for opener in OPENERS)]
        names[tokenizer.convert_tokens_to_ids(before)] = True
        return cls(begins, number, ends, theme, names)


def _sight_lost(sights: Sequence[Any], tokens: Any, answered: Any, marks: _Marks) -> Any:
    """How little of the sight of some heads rests where it should, in nats; see GUIDANCE.

    `sights` are, layer by layer, examples × heads × tokens × tokens: where each token looks.
    """
    import torch

    place = torch.arange(tokens.shape[1])
    shown = ~answered
    begun = latest((marks.begins[tokens] > 0) & shown)
    # Of each token of the prompt, the number of its line; of each of the answer, the number named last.
    named = latest((marks.number[tokens] > 0) & answered)
    line = torch.where(shown, marks.begins[tokens.gather(1, begun.clamp(min=0))] * (begun >= 0), 0)
    own = torch.where(named >= 0, marks.number[tokens.gather(1, named.clamp(min=0))], -1)
    ends = marks.ends[tokens] & shown
    following = torch.zeros_like(line)
    following[:, :-1] = marks.number[tokens[:, 1:]] * answered[:, 1:]
    themes = (marks.theme[tokens] & shown)[:, None, :]
    at = place[None, None, :]
    wanted = (
        (0, 0, (begun[:, :, None] == at) & ((line > 0) & shown)[:, :, None]),
        (0, 1, (place[None, :, None] - 3 == at) & ends[:, :, None]),
        (0, 2, (place[None, :, None] - 1 == at) & ends[:, :, None]),
        (1, 0, (following[:, :, None] == line[:, None, :]) & (following > 0)[:, :, None] & ends[:, None, :]),
        (1, 1, (own[:, :, None] == line[:, None, :]) & (marks.names[tokens] & answered)[:, :, None] & themes),
    )
    lost = []
    for layer, head, where in wanted:
        rows = where.any(-1)
        if rows.any():
            lost.append(-((sights[layer][:, head] * where).sum(-1)[rows] + 1e-6).log().mean())
    return torch.stack(lost).sum()


if __name__ == "__main__":
    build(Path(sys.argv[1]), **({"examples": int(sys.argv[2])} if len(sys.argv) > 2 else {}))
