"""A policy sampled with vLLM in this process (the host: see `policy_host`), for machines with a GPU.

One engine is loaded and stays, for every domain, recipe and iteration that this process samples from the
same base. It lives in the process itself, so that it is scheduled the same way every time, and goes with it
however that ends; with tensor parallelism, vLLM starts a process a GPU. A text is drawn by its own seed: each
is a request of its own, because vLLM numbers the seeds of one request's n texts on from the first. Nothing is
lost by that: vLLM makes requests of them too, and prefix caching reads their common prompt once. Which texts
are written together does not matter, beyond the last bits of a float.

On a GPU, an adapter goes along with the requests that it is for, and the base stays as it is. On a CPU,
vLLM's LoRA kernels made that four times slower than the base alone, so there the adapter is merged into a
copy of the base, in a temporary folder that is gone once the engine is loaded.
"""

import gc
import hashlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deeper_assets.engines.sampling.policy_tokens import (
    as_sample,
    encode,
    for_each_seed,
    load_tokenizer,
    room_for,
    seeds_to_draw,
)
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.method.protocols import Decoding, Sample

CPU_CACHE_BYTES = 2**30
"""The attention cache on a CPU, where vLLM takes a share of all memory unless told."""

CPU_BLOCK = 32
"""Tokens that prefix caching shares at once on a CPU, where vLLM's 128 is more than a short prompt has."""

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """How vLLM is loaded; see `settings.SamplerSettings`.

    Attributes:
        tensor_parallel: GPUs that the model is spread over.
        memory_share: of a GPU's memory (0-1), for weights and attention cache; a CPU takes `CPU_CACHE_BYTES`.
        prefix_caching: whether what prompts begin with in common is read once.
        max_length: tokens of prompt and text; None for what the model takes.
        dtype: of weights and sums; `auto` for the one that the model is stored in.
    """

    tensor_parallel: int = 1
    memory_share: float = 0.9
    prefix_caching: bool = True
    max_length: int | None = None
    dtype: str = "auto"


@dataclass(frozen=True)
class VllmSampler:
    """A causal language model, with a LoRA adapter on it if there is one.

    Attributes:
        name: identifies base and adapter by their content.
        base: folder (or hub name) of the model.
        adapter: folder of a PEFT adapter; None for the base itself.
        options: how the engine is loaded.
    """

    name: str
    base: str
    adapter: Path | None = None
    options: EngineOptions = EngineOptions()

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it; see `Sampler`.

        Raises:
            DeeperError: vLLM is not installed, or cannot load the model or run it.
        """
        if not prompts:
            return []
        engine = _engine(self.base, self.adapter, self.options)
        tokenizer = load_tokenizer(self.base)
        encoded = encode(tokenizer, prompts)
        room = room_for(encoded, engine.max_length, decoding.max_new_tokens)
        wanted = [
            (place, seed)
            for place, own in enumerate(seeds)
            if room[place]
            for seed in seeds_to_draw(own, decoding)
        ]
        written = iter(
            engine.write([(encoded[place], room[place], seed) for place, seed in wanted], decoding)
        )
        texts: list[list[Sample]] = [[] for _ in prompts]
        for (place, _), (tokens, ended) in zip(wanted, written, strict=True):
            texts[place].append(as_sample(tokenizer, tokens, ended))
        return [for_each_seed(of, len(own)) for of, own in zip(texts, seeds, strict=True)]


def usable() -> bool:
    """Whether vLLM is installed and there is a GPU for it."""
    if find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def unload() -> None:
    """Frees what the engine holds, for whoever needs the memory next: a training, say."""
    global _loaded  # noqa: PLW0603 - an engine is what a process has one of
    if _loaded is not None:
        _loaded.llm.llm_engine.engine_core.shutdown()
        _loaded = None
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


# ------------------------------------------------------------------------------ shared with vLLM as a server


def decoding_values(decoding: Decoding) -> dict[str, Any]:
    """What vLLM is told of decoding. All is said: what is not, it takes from the model's own defaults."""
    return {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,  # off
        "min_p": 0.0,
        "repetition_penalty": decoding.repetition_penalty,
    }


def content_hash(adapter: Path) -> str:
    """A hash (16 hexadecimal digits) of the files of an adapter.

    It names the adapter to vLLM, whose caches go by the name: another adapter under a name that was used
    before would be served the attention cache of the first (vLLM issue 30931).
    """
    found = hashlib.sha256()
    for path in sorted(path for path in adapter.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(adapter)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


# --------------------------------------------------------------------------------------------- the engine


@dataclass(frozen=True)
class _Key:
    """What an engine has loaded.

    Attributes:
        base: folder or hub name.
        merged: content of the adapter that is merged into it; None for the base as it is.
        rank: the highest rank of an adapter that may go along with a request; 0 for none.
        options: how it was loaded.
    """

    base: str
    merged: str | None
    rank: int
    options: EngineOptions

    def serves(self, wanted: "_Key") -> bool:
        """Whether an engine loaded so does for what is wanted."""
        return (self.base, self.merged, self.options) == (wanted.base, wanted.merged, wanted.options) and (
            self.rank >= wanted.rank
        )


@dataclass(frozen=True)
class _Loaded:
    key: _Key
    llm: Any


@dataclass(frozen=True)
class _Engine:
    """vLLM, and the adapter that goes along with requests."""

    llm: Any
    lora: Any

    @cached_property
    def max_length(self) -> int:
        return int(self.llm.model_config.max_model_len)

    def write(
        self, wanted: Sequence[tuple[Sequence[int], int, int]], decoding: Decoding
    ) -> list[tuple[list[int], bool]]:
        """Tokens of a text for each prompt, room and seed, and whether it came to an end."""
        from vllm import SamplingParams

        values = decoding_values(decoding)
        requests = [{"prompt_token_ids": list(prompt)} for prompt, _, _ in wanted]
        params = [
            SamplingParams(seed=seed, max_tokens=room, detokenize=False, **values) for _, room, seed in wanted
        ]
        try:
            done = self.llm.generate(requests, params, use_tqdm=False, lora_request=self.lora)
        except RuntimeError as error:
            unload()  # it is no use any more
            raise DeeperError(
                f"vLLM cannot run the policy: {one_line(error)}; sampler.engine transformers may"
            ) from error
        texts = [request.outputs[0] for request in done]
        return [(list(text.token_ids), text.finish_reason == "stop") for text in texts]


_loaded: _Loaded | None = None


def _engine(base: str, adapter: Path | None, options: EngineOptions) -> _Engine:
    """The engine for a base and adapter: the one that is loaded if it does, else another in its place."""
    if adapter is None:
        return _Engine(_llm(_Key(base, None, 0, options), None), None)
    if _merges_adapters():
        return _Engine(_llm(_Key(base, content_hash(adapter), 0, options), adapter), None)
    return _Engine(_llm(_Key(base, None, _rank(adapter), options), adapter), _lora_request(adapter))


def _merges_adapters() -> bool:
    return bool(_platform().is_cpu())


def _platform() -> Any:
    # Read by vLLM when it is imported.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise DeeperError(
            f"vLLM cannot be imported here ({one_line(error)}); install the extra `gpu`, or set"
            " sampler.engine to transformers, or to vllm_server with the urls of servers"
        ) from error
    return current_platform


def _llm(wanted: _Key, adapter: Path | None) -> Any:
    global _loaded  # noqa: PLW0603
    if _loaded is None or not _loaded.key.serves(wanted):
        unload()
        logger.info("vLLM loads %s", wanted.base)
        with _model_folder(wanted, adapter) as folder:
            _loaded = _Loaded(wanted, _load(folder, wanted))
    return _loaded.llm


def _load(folder: str, key: _Key) -> Any:
    on_cpu = _platform().is_cpu()  # before vLLM is imported
    from vllm import LLM

    options = key.options
    if on_cpu:
        # Part of a prompt at a time is more than vLLM's seeded sampling can do on a CPU ("CPU Generator does
        # not use offset"); compiling takes longer than what fits on a CPU is sampled for.
        where: dict[str, Any] = {
            "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            "block_size": CPU_BLOCK,
            "enable_chunked_prefill": False,
            "enforce_eager": True,
        }
    else:
        where = {"gpu_memory_utilization": options.memory_share}
    loras = {"enable_lora": True, "max_lora_rank": key.rank, "max_loras": 1} if key.rank else {}
    try:
        return LLM(
            model=folder,
            dtype=_dtype(folder, options.dtype),
            tensor_parallel_size=options.tensor_parallel,
            enable_prefix_caching=options.prefix_caching,
            max_model_len=options.max_length,
            use_tqdm_on_load=False,
            **where,
            **loras,
        )
    except (RuntimeError, ValueError) as error:
        gc.collect()
        raise DeeperError(
            f"vLLM cannot load the policy {key.base}: {one_line(error)}. Settings that matter: "
            f"sampler.memory_share ({options.memory_share:g}), sampler.max_length ({options.max_length}), "
            f"sampler.tensor_parallel ({options.tensor_parallel}), sampler.dtype ({options.dtype}); "
            "and what other programs hold of the memory"
        ) from error


def _dtype(base: str, asked: str) -> str:
    """The dtype to ask for. vLLM's own `auto` would make 16 bits of 32, unlike transformers'."""
    if asked != "auto":
        return asked
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(base).dtype
    return "auto" if stored is None else str(stored).removeprefix("torch.")


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    if rank > LORA_RANKS[-1]:
        raise DeeperError(
            f"adapter {adapter} has rank {rank}, more than vLLM's {LORA_RANKS[-1]}; lower training.lora_rank,"
            " or set sampler.engine to transformers"
        )
    return next(room for room in LORA_RANKS if room >= rank)


def _lora_request(adapter: Path) -> Any:
    from vllm.lora.request import LoRARequest

    name = content_hash(adapter)
    # vLLM keeps adapters by number: one from the content too, above zero and of 31 bits.
    return LoRARequest(name, int(name, 16) % (2**31 - 1) + 1, str(adapter))


@contextmanager
def _model_folder(key: _Key, adapter: Path | None) -> Iterator[str]:
    """Where the model lies: the base, or for as long as it is loaded a copy with the adapter in it."""
    if key.merged is None or adapter is None:
        yield key.base
        return
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory(prefix="deeper-merged-") as folder:
        with warnings.catch_warnings():  # of what PEFT calls in transformers
            warnings.simplefilter("ignore", FutureWarning)
            base = AutoModelForCausalLM.from_pretrained(key.base, dtype="auto")
            PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)
        load_tokenizer(key.base).save_pretrained(folder)
        yield folder
