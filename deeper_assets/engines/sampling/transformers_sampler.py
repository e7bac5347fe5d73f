"""A policy sampled with transformers: the sampler for tiny policies, and for machines without vLLM.

A text is drawn by its own seed and nothing else: for each of its tokens the seed gives one number between 0
and 1, which picks from the tokens that top_p leaves, the likeliest first. So which prompts share a batch does
not matter, beyond the last bits of a float.
"""

import gc
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any

from deeper_assets.engines.sampling.gpu import alone_on_gpu
from deeper_assets.engines.sampling.policy_tokens import (
    as_sample,
    encode,
    for_each_seed,
    load_tokenizer,
    room_for,
    seeds_to_draw,
)
from deeper_assets.method.protocols import Decoding, Sample

TOKENS_AT_ONCE = 24_000
"""Prompt and new tokens of all texts that are written together: bounds the memory of the attention cache."""

LIKELIEST = 64
"""Tokens that are looked at first for those that top_p leaves."""

ENDED_TOGETHER = 0.2
"""Share of texts that have ended when their attention cache is dropped: that means copying the rest."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransformersSampler:
    """A causal language model, with a LoRA adapter merged into it if there is one.

    Attributes:
        name: identifies base and adapter by their content.
        base: folder (or hub name) of the model.
        adapter: folder of a PEFT adapter.
        device: where it runs; None for a GPU if there is one.
        max_length: tokens of prompt and text; None for what the model takes.
        loaded: the model, where it is in memory already.
    """

    name: str
    base: Path | str
    adapter: Path | None = None
    device: str | None = None
    max_length: int | None = None
    loaded: Any = None

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it; see `Sampler`."""
        if not prompts:
            return []
        encoded = encode(self._tokenizer, prompts)
        room = room_for(encoded, self._longest, decoding.max_new_tokens)
        texts: list[list[Sample]] = [[] for _ in prompts]
        fitting = [i for i in range(len(prompts)) if room[i]]
        for batch in _batches(fitting, encoded, seeds, decoding):
            written = self._write([encoded[i] for i in batch], [seeds[i] for i in batch], decoding)
            for i, rows in zip(batch, written, strict=True):
                texts[i] = [self._sample(row[: room[i]]) for row in rows]
        return [for_each_seed(of, len(own)) for of, own in zip(texts, seeds, strict=True)]

    @property
    def _tokenizer(self) -> Any:
        return load_tokenizer(str(self.base))

    @cached_property
    def _model(self) -> Any:
        if self.loaded is not None:
            return self.loaded
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar, set_verbosity_error

        set_verbosity_error()
        disable_progress_bar()
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        logger.info("transformers loads %s", self.name)
        if device == "cpu":
            # The order of sums is fixed then. What fits on a CPU is small; other processes use other cores.
            torch.set_num_threads(1)
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype="auto")
        if self.adapter is not None:
            from peft import PeftModel

            with warnings.catch_warnings():  # of what PEFT calls in transformers
                warnings.simplefilter("ignore", FutureWarning)
                model = PeftModel.from_pretrained(model, self.adapter).merge_and_unload()
        return model.to(device).eval()

    @property
    def _longest(self) -> int:
        known = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return min(self.max_length or sys.maxsize, known or sys.maxsize)

    @cached_property
    def _cache_argument(self) -> str:
        """What the model calls its attention cache: transformers renamed it in 5.24.

        The signature is asked, because a model takes an argument that it does not know without a word; that
        of its class, because a trainer may have wrapped the model's own.
        """
        return "cache" if "cache" in signature(type(self._model).forward).parameters else "past_key_values"

    def _write(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[list[int]]]:
        """The tokens of one batch's texts; of greedy decoding, one text a prompt.

        Every prompt is read once, and its attention cache shared by its texts.
        """
        import numpy as np
        import torch
        from torch.nn.utils.rnn import pad_sequence
        from transformers import DynamicCache

        model, ends = self._model, self._ends
        copies = [len(seeds_to_draw(own, decoding)) for own in seeds]
        pad = partial(pad_sequence, batch_first=True, padding_side="left")
        encoded = [torch.tensor(prompt, device=model.device) for prompt in prompts]
        ids = pad(encoded, padding_value=self._tokenizer.pad_token_id or 0)  # any will do: it is masked
        mask = pad([torch.ones_like(own) for own in encoded])
        repeats = torch.tensor(copies, device=model.device)
        draws = None
        if decoding.temperature != 0:
            numbers = [
                np.random.default_rng(seed).random(decoding.max_new_tokens) for own in seeds for seed in own
            ]
            draws = torch.from_numpy(np.stack(numbers)).to(model.device)
        with torch.inference_mode():
            cache = DynamicCache(config=model.config)
            read = partial(model, use_cache=True, logits_to_keep=1, **{self._cache_argument: cache})
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = read(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1]
            index = torch.repeat_interleave(torch.arange(len(prompts), device=model.device), repeats)
            cache.batch_select_indices(index)
            logits, ids, mask = logits[index], ids[index], mask[index]
            position = positions[index, -1]
            seen = torch.zeros_like(logits, dtype=torch.bool)
            if decoding.repetition_penalty != 1:
                # The padding counts as the last token again: its own may stand in the prompt, or not.
                seen.scatter_(1, ids.where(mask.bool(), ids[:, -1:]), True)
            tokens = torch.full((len(index), decoding.max_new_tokens), -1, device=model.device)
            rows = torch.arange(len(index), device=model.device)  # which texts are still written
            ended = torch.zeros_like(rows, dtype=torch.bool)
            for step in range(decoding.max_new_tokens):
                if decoding.repetition_penalty != 1:
                    penalized = torch.where(
                        logits > 0, logits / decoding.repetition_penalty, logits * decoding.repetition_penalty
                    )
                    logits = torch.where(seen, penalized, logits)
                chosen = logits.argmax(-1) if draws is None else _draw(logits, draws[rows, step], decoding)
                tokens[rows, step] = chosen
                ended = ended | torch.isin(chosen, ends)
                if ended.all() or step == decoding.max_new_tokens - 1:
                    break
                if ended.sum() > len(rows) * ENDED_TOGETHER:
                    going = (~ended).nonzero().squeeze(1)
                    cache.batch_select_indices(going)
                    rows, chosen, seen = rows[going], chosen[going], seen[going]
                    mask, position, ended = mask[going], position[going], ended[going]
                seen.scatter_(1, chosen[:, None], True)
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
                position = (position + 1).clamp(max=self._longest - 1)  # what comes later is cut off
                output = read(input_ids=chosen[:, None], attention_mask=mask, position_ids=position[:, None])
                logits = output.logits[:, -1]
        return [texts.tolist() for texts in torch.split(tokens[:, : step + 1].cpu(), copies)]

    @cached_property
    def _ends(self) -> Any:
        import torch

        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._tokenizer.eos_token_id
        return torch.tensor(ends if isinstance(ends, list) else [ends], device=self._model.device)

    def _sample(self, row: list[int]) -> Sample:
        ends = set(self._ends.tolist())
        end = next((i for i, token in enumerate(row) if token in ends), None)
        return as_sample(self._tokenizer, row if end is None else row[: end + 1], end is not None)


@dataclass(frozen=True)
class ReloadedSampler:
    """A policy that fills a GPU, on a machine without vLLM: it is loaded to write, and freed when it has.

    One process at a time does so, and no training beside it. Nothing stays loaded for the next step, which
    Dagster gives to another process, or while the chat model is asked: so a step that samples once loads
    once, and an evaluation, which samples in each of its four rounds, loads four times. `folder` holds the
    GPU's locks; see `gpu`.
    """

    sampler: TransformersSampler
    folder: Path

    @property
    def name(self) -> str:
        """Identifies the policy."""
        return self.sampler.name

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it; see `Sampler`."""
        if not prompts:
            return []
        with alone_on_gpu(self.folder):
            try:
                return replace(self.sampler).sample(prompts, seeds, decoding)  # a copy, gone with its model
            finally:
                _free_memory()


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _draw(logits: Any, draws: Any, decoding: Decoding) -> Any:
    """The token that each row's number between 0 and 1 picks from what top_p leaves."""
    import torch

    probabilities = (logits.double() / decoding.temperature).softmax(-1)
    # To order the likeliest tells the same as to order all, and takes a fraction of the time.
    likeliest, order = probabilities.topk(min(LIKELIEST, probabilities.shape[-1]))
    if not (likeliest.sum(-1) >= decoding.top_p).all():
        likeliest, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    upto = likeliest.cumsum(-1)
    kept = likeliest * (upto - likeliest < decoding.top_p)
    upto = kept.cumsum(-1)
    picked = (upto <= draws[:, None] * upto[:, -1:]).sum(-1, keepdim=True)
    return order.gather(1, picked.clamp(max=order.shape[-1] - 1)).squeeze(1)


def _batches(
    places: Iterable[int],
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    decoding: Decoding,
) -> Iterator[list[int]]:
    """Those of these places whose texts are written together: of like length, and no more than fit."""
    batch: list[int] = []
    used = 0
    for i in sorted(places, key=lambda i: (len(prompts[i]), i)):
        needed = len(seeds[i]) * (len(prompts[i]) + min(decoding.max_new_tokens, 64))
        if batch and used + needed > TOKENS_AT_ONCE:
            yield batch
            batch, used = [], 0
        batch.append(i)
        used += needed
    if batch:
        yield batch
