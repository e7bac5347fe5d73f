"""Batches of whole groups, and their log-probabilities, for which a prompt is read once for all completions.

TRL reads it once for each. Here the completions stand behind their prompt in one sequence, as branches: each
sees the prompt and itself, and counts its positions on from the prompt's. A branch begins with a copy of the
prompt's last token, because that is what predicts the completion's first. Scores are the same, up to the last
bits of a float; eight completions of 100 tokens after a prompt of 325 take two fifths of the time, two take
three fifths.

The model must take positions and a mask of queries × keys, as Llama, Qwen and their like do.

Lazy: it imports torch, so it is itself imported only where a training begins.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deeper_assets.engines.training.examples import packed_length
from deeper_assets.engines.training.memory import SMALL_LOGITS

Ids = Sequence[int]


def collate(groups: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    """One batch of groups: their completions as rows, group after group, and rewards as groups × places.

    Args:
        groups: each with prompt_ids, completion_ids (a list a completion), rewards and, once it is known,
            reference (log-probability of each completion under the reference).
        pad_token_id: fills sequences up.

    Returns:
        rewards, reference: groups × places, 0 where there is no completion; mask: the same shape, True
        where there is one; and the tensors of `pack`.
    """

    def places(name: str) -> Tensor:
        values = [torch.tensor(group[name], dtype=torch.float32) for group in groups]
        return pad_sequence(values, batch_first=True)

    completions = [group["completion_ids"] for group in groups]
    counts = torch.tensor([len(own) for own in completions])
    return {
        "rewards": places("rewards"),
        "mask": torch.arange(int(counts.max())) < counts.unsqueeze(1),
        **({"reference": places("reference")} if "reference" in groups[0] else {}),
        **pack([group["prompt_ids"] for group in groups], completions, pad_token_id),
    }


def pack(
    prompts: Sequence[Ids], completions: Sequence[Sequence[Ids]], pad_token_id: int
) -> dict[str, Tensor]:
    """Tensors from which `log_probs` computes what a model would for rows of prompt + completion.

    Args:
        prompts: tokens of each prompt, at least one.
        completions: of each prompt, the tokens of each of its completions. They are the rows, in this order.
        pad_token_id: fills sequences up.

    Returns:
        packed_ids, packed_labels, packed_positions: prompts × tokens; packed_mask: prompts × 1 × tokens ×
        tokens, True where a query (third) sees a key (fourth); packed_source: rows × (width − 1), where the
        outputs of each row's completion lie among all outputs, and −1 for its prompt and padding. Width is
        the length of the longest row.
    """
    own = list(zip(prompts, completions, strict=True))
    size = max(packed_length(prompt, branches) for prompt, branches in own)
    width = max(len(prompt) + len(completion) for prompt, branches in own for completion in branches)
    ids = torch.full((len(prompts), size), pad_token_id)
    labels = torch.full_like(ids, -100)
    positions = torch.zeros_like(ids)
    branch_of = torch.full_like(ids, -1)
    source = torch.full((sum(map(len, completions)), width - 1), -1)
    row = 0
    for place, (prompt, branches) in enumerate(own):
        start = shared = len(prompt) - 1
        ids[place, :shared] = torch.tensor(prompt[:-1])
        positions[place, :shared] = torch.arange(shared)
        for completion in branches:
            end = start + 1 + len(completion)
            ids[place, start] = prompt[-1]
            ids[place, start + 1 : end] = labels[place, start + 1 : end] = torch.tensor(completion)
            positions[place, start:end] = torch.arange(shared, shared + end - start)
            branch_of[place, start:end] = row
            source[row, shared : shared + len(completion)] = torch.arange(start, end - 1) + place * (size - 1)
            start, row = end, row + 1
    in_prompt = torch.arange(size) < torch.tensor([len(prompt) - 1 for prompt in prompts]).unsqueeze(1)
    seen = in_prompt.unsqueeze(1) | (branch_of.unsqueeze(2) == branch_of.unsqueeze(1))
    return {
        "packed_ids": ids,
        "packed_labels": labels,
        "packed_positions": positions,
        # Padding sees earlier padding and itself: a query that sees nothing gives NaN.
        "packed_mask": (seen & torch.ones(size, size, dtype=torch.bool).tril()).unsqueeze(1),
        "packed_source": source,
    }


def log_probs(model: Any, batch: Mapping[str, Tensor], vocabulary: int) -> Tensor:
    """Log-probabilities of the completions of all rows, rows × (width − 1), 0 elsewhere; 32-bit floats.

    By TRL's fused head, whose tiles keep memory low, only where the logits are many: where they are few, it
    takes a third longer than computing them all. `batch` holds the tensors of `pack`, `vocabulary` counts the
    words that the model knows.
    """
    labels, source = batch["packed_labels"], batch["packed_source"]
    tiled = batch["packed_ids"].numel() * vocabulary > SMALL_LOGITS
    output = model(
        input_ids=batch["packed_ids"],
        position_ids=batch["packed_positions"],
        attention_mask=batch["packed_mask"],
        use_cache=False,
        **({"labels": labels, "fused_lm_head": True} if tiled else {}),
    )
    if tiled:
        logps: Tensor = output["log_probs"].float()
    else:
        logits = output.logits[:, :-1].flatten(0, 1).float()
        logps = -torch.nn.functional.cross_entropy(
            logits, labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
        )
    return logps.flatten()[source.clamp(min=0)].masked_fill(source < 0, 0)
