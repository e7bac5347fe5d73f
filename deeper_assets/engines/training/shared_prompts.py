"""Reads a prompt once for all its completions, where TRL reads it once for each.

The completions stand behind their prompt in one sequence, as branches: each sees the prompt and itself, and
counts its positions on from the prompt's. A branch begins with a copy of the prompt's last token, because
that is what predicts the completion's first. Scores are the same, up to the last bits of a float; eight
completions of 100 tokens after a prompt of 325 take two fifths of the time, two take three fifths.

The model must take positions and a mask of queries × keys, as Llama, Qwen and their like do.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

Ids = Sequence[int]


def pack(prompts: Sequence[Ids], rows: Sequence[tuple[int, Ids]], pad_token_id: int) -> dict[str, Any]:
    """Tensors from which `SharedPrompts` computes what a model would for rows of prompt + completion.

    Args:
        prompts: tokens of each prompt, at least one.
        rows: which prompt, and the tokens of a completion.
        pad_token_id: fills sequences up.

    Returns:
        packed_ids, packed_labels, packed_positions: prompts × tokens; packed_mask: prompts × 1 × tokens ×
        tokens, True where a query (third) sees a key (fourth); packed_source: rows × (width − 1), where the
        outputs of each row's completion lie among all outputs, and −1 for its prompt and padding. Width is
        the length of the longest row.
    """
    import torch

    own = [[row for row, (prompt, _) in enumerate(rows) if prompt == place] for place in range(len(prompts))]
    lengths = [
        len(prompt) - 1 + sum(1 + len(rows[row][1]) for row in branches)
        for prompt, branches in zip(prompts, own, strict=True)
    ]
    size, width = max(lengths), max(len(prompts[prompt]) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(prompts), size), pad_token_id)
    labels = torch.full_like(ids, -100)
    positions = torch.zeros_like(ids)
    branch_of = torch.full_like(ids, -1)
    source = torch.full((len(rows), width - 1), -1)
    for place, (prompt, branches) in enumerate(zip(prompts, own, strict=True)):
        shared = len(prompt) - 1
        ids[place, :shared] = torch.tensor(prompt[:-1])
        positions[place, :shared] = torch.arange(shared)
        start = shared
        for row in branches:
            completion = torch.tensor(rows[row][1])
            length = len(completion)
            ids[place, start] = prompt[-1]
            ids[place, start + 1 : start + 1 + length] = completion
            labels[place, start + 1 : start + 1 + length] = completion
            positions[place, start : start + 1 + length] = torch.arange(shared, shared + 1 + length)
            branch_of[place, start : start + 1 + length] = row
            source[row, shared : shared + length] = place * (size - 1) + start + torch.arange(length)
            start += 1 + length
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


SMALL_LOGITS = 2**26
"""Logits (tokens × vocabulary) that are computed at once: 256 MB as floats."""


class SharedPrompts:
    """A model with TRL's fused head; called like it, with the tensors of `pack` beside the rows."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, **batch: Any) -> SimpleNamespace:
        """The outputs that the fused head gives for the completions of all rows, 0 elsewhere."""
        output = self._read(batch, labels=batch["packed_labels"], fused_lm_head=True)
        names = ("log_probs", "entropy", "mean_logits", "is_top1")
        return SimpleNamespace(**{name: _unpacked(output[name], batch["packed_source"]) for name in names})

    def log_probs(self, batch: Mapping[str, Any], vocabulary: int) -> Any:
        """Log-probabilities of the completions of all rows, rows × (width − 1), 0 elsewhere; 32-bit floats.

        By the fused head, whose tiles keep memory low, only where the logits are many: where they are few,
        it takes a third longer than computing them all.
        """
        import torch

        if batch["packed_ids"].numel() * vocabulary > SMALL_LOGITS:
            return self(**batch).log_probs.float()
        logits, labels = self._read(batch).logits[:, :-1], batch["packed_labels"][:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100, reduction="none"
        )
        return _unpacked(-losses, batch["packed_source"])

    def _read(self, batch: Mapping[str, Any], **options: Any) -> Any:
        return self._model(
            input_ids=batch["packed_ids"],
            position_ids=batch["packed_positions"],
            attention_mask=batch["packed_mask"],
            use_cache=False,
            **options,
        )


def _unpacked(outputs: Any, source: Any) -> Any:
    """What `pack` has put in one sequence, as rows again."""
    return outputs.flatten()[source.clamp(min=0)].masked_fill(source < 0, 0)
