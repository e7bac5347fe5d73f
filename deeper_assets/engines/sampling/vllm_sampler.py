"""A policy sampled by vLLM servers, over their API: those that are given, or the home's own.

Prompts go there as tokens, over /v1/completions, and tokens come back, so that templates and decoding are the
ones of the other sampler; /v1/chat/completions would apply the server's own. A text is drawn by its own seed:
each is a request of its own, because vLLM numbers the seeds of one request's n texts on from the first.
Nothing is lost by that: vLLM makes requests of them too, and prefix caching reads their common prompt once.
Which texts are written together does not matter, beyond the last bits of a float.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deeper_assets.engines.sampling.policy_tokens import (
    as_sample,
    encode,
    for_each_seed,
    load_tokenizer,
    room_for,
    seeds_to_draw,
)
from deeper_assets.engines.sampling.replicas import Adapter, Endpoint, Request, serving
from deeper_assets.engines.sampling.vllm_server import OwnServer
from deeper_assets.engines.secrets import key_in
from deeper_assets.method.protocols import Decoding, Sample


@dataclass(frozen=True)
class GivenServers:
    """Servers that others run: replicas of one base model that take adapters at run time.

    `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE --enable-lora --max-lora-rank RANK` starts one. Its
    url ends in /v1. The environment variable `key_env` has their key; it may be unset.
    """

    urls: tuple[str, ...]
    key_env: str = "VLLM_API_KEY"

    @contextmanager
    def endpoints(self, base: str, adapter: Path | None) -> Iterator[list[Endpoint]]:  # noqa: ARG002
        """All of them, whatever they are to serve."""
        key = key_in(self.key_env)
        yield [
            Endpoint(url, key, self.key_env) for url in dict.fromkeys(url.rstrip("/") for url in self.urls)
        ]


@dataclass(frozen=True)
class VllmSampler:
    """A causal language model on servers, with a LoRA adapter on it if there is one.

    Attributes:
        name: identifies base and adapter by their content.
        base: folder (or hub name) of the model; its tokenizer is read here.
        adapter: folder of a PEFT adapter, which the servers must be able to read under the same path.
        concurrency: requests at once to each server.
    """

    name: str
    base: str
    servers: GivenServers | OwnServer
    adapter: Path | None = None
    concurrency: int = 64

    def sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[list[Sample]]:
        """Writes as many texts for each prompt as there are seeds for it; see `Sampler`.

        Raises:
            DeeperError: no server answers any more, one serves another model, knows no key or cannot load the
                adapter.
        """
        if not prompts:
            return []
        with self.servers.endpoints(self.base, self.adapter) as endpoints:
            return asyncio.run(self._sample(endpoints, prompts, seeds, decoding))

    async def _sample(
        self,
        endpoints: Sequence[Endpoint],
        prompts: Sequence[str],
        seeds: Sequence[Sequence[int]],
        decoding: Decoding,
    ) -> list[list[Sample]]:
        tokenizer = load_tokenizer(self.base)
        encoded = encode(tokenizer, prompts)
        adapter = None if self.adapter is None else Adapter(content_hash(self.adapter), self.adapter)
        async with serving(self.base, adapter, endpoints, self.concurrency) as replicas:
            room = room_for(encoded, await replicas.max_length(), decoding.max_new_tokens)
            wanted = [
                Request(place, encoded[place], room[place], seed)
                for place, own in enumerate(seeds)
                if room[place]
                for seed in seeds_to_draw(own, decoding)
            ]
            written = await replicas.write(wanted, decoding)
        texts: list[list[Sample]] = [[] for _ in prompts]
        for request, (tokens, ended) in zip(wanted, written, strict=True):
            texts[request.place].append(as_sample(tokenizer, tokens, ended))
        return [for_each_seed(of, len(own)) for of, own in zip(texts, seeds, strict=True)]


def content_hash(adapter: Path) -> str:
    """A hash (16 hexadecimal digits) of the files of an adapter.

    It names the adapter to vLLM, whose caches go by the name: another adapter under a name that was used
    before would be served the attention cache of the first (vLLM issue 30931).
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in adapter.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(adapter)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
