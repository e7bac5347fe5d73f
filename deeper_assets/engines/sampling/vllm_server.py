"""The home's own vLLM server: started by whoever samples first, shared by all processes of the home.

vLLM loads the base once and takes adapters at run time, so one server does for every domain, recipe and
iteration. `server_keeper` says how long it stays, `gpu` who waits for whom.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from deeper_assets.engines.sampling import gpu, server_keeper
from deeper_assets.engines.sampling.replicas import Endpoint
from deeper_assets.method.exceptions import DeeperError

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for."""

ADAPTERS = 4
"""Adapters that vLLM writes with at a time: as many as `deeper run` has workers, unless told otherwise."""

ON_CPU = (
    # Unless told, vLLM takes a share of all memory for the attention cache.
    *("--kv-cache-memory-bytes", str(2**30)),
    # Tokens that prefix caching shares at once; vLLM's 128 are more than a short prompt has.
    *("--block-size", "32"),
    # vLLM's seeded sampling cannot read a prompt in parts on a CPU ("CPU Generator does not use offset").
    "--no-enable-chunked-prefill",
    # Compiling takes longer than what fits on a CPU is sampled for.
    "--enforce-eager",
)
"""Options of a server without a GPU."""


@dataclass(frozen=True)
class ServerOptions:
    """How vLLM is started; see `settings.SamplerSettings`. There is room for adapters of `lora_rank`."""

    tensor_parallel: int = 1
    memory_share: float = 0.9
    prefix_caching: bool = True
    max_length: int | None = None
    dtype: str = "auto"
    lora_rank: int = 16

    def arguments(self, base: str, adapter: Path | None, on_cpu: bool) -> list[str]:
        """Command-line options of a server of this base that has room for this adapter."""
        rank = self.lora_rank if adapter is None else max(self.lora_rank, _rank(adapter))
        return [
            *("--model", base, "--dtype", _dtype(base, self.dtype)),
            *("--tensor-parallel-size", str(self.tensor_parallel)),
            "--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching",
            *(() if self.max_length is None else ("--max-model-len", str(self.max_length))),
            *("--enable-lora", "--max-lora-rank", str(_room_for(rank)), "--max-loras", str(ADAPTERS)),
            # Requests tell all of decoding: nothing of the model's own defaults, its longest text included.
            *("--generation-config", "vllm"),
            "--disable-uvicorn-access-log",
            *(ON_CPU if on_cpu else ("--gpu-memory-utilization", str(self.memory_share))),
        ]


@dataclass(frozen=True)
class OwnServer:
    """The server of a home; its locks and log are in `folder`.

    It stays for `keep_loaded` seconds when nobody samples.
    """

    folder: Path
    options: ServerOptions
    keep_loaded: float

    @contextmanager
    def endpoints(self, base: str, adapter: Path | None) -> Iterator[list[Endpoint]]:
        """The server, which stays until the block ends; it may still be loading when the block begins.

        One that was started with other options is ended first, once nobody samples from it.

        Raises:
            DeeperError: vLLM is not installed, or has no room for the adapter.
        """
        if find_spec("vllm") is None:
            raise DeeperError(
                "vLLM is not installed here; install the extra `gpu`, or set sampler.urls to servers that"
                " run, or sampler.engine to transformers"
            )
        wanted = self.options.arguments(base, adapter, not has_gpu())
        with gpu.opened(self.folder / gpu.LOCK) as lock:
            with gpu.locked(self.folder / gpu.TURN):
                fcntl.flock(lock, fcntl.LOCK_SH)
                os.utime(lock)
                server = gpu.kept_server(self.folder)
                if server is None or server.options != wanted:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    gpu.end_server(self.folder)
                    server = self._start(wanted)
                    fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                yield [Endpoint(server.url, server.key, check=lambda: self._check(server))]
            finally:
                os.utime(lock)

    def _start(self, wanted: Sequence[str]) -> gpu.KeptServer:
        (self.folder / gpu.SERVER).unlink(missing_ok=True)
        with gpu.locked(self.folder / gpu.KEEPER) as lock, self._log.open("ab") as log:
            parent = os.environ.get(server_keeper.PARENT, "0")
            given = [str(self.folder), str(self.keep_loaded), parent, str(lock)]
            subprocess.Popen(
                [sys.executable, "-m", server_keeper.__name__, *given, *wanted],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # what ends a run is not for the keeper, which notices by itself
            )
        server = gpu.kept_server(self.folder)
        if server is None:
            raise DeeperError(f"the process that was to start vLLM has ended; see {self._log}")
        return server

    def _check(self, server: gpu.KeptServer) -> None:
        """DeeperError if the server has ended for good."""
        if gpu.kept_server(self.folder) != server:
            raise DeeperError(
                f"vLLM has ended; why is in {self._log}. Settings that matter: sampler.memory_share,"
                " max_length, tensor_parallel and dtype; and what other programs hold of the memory"
            )

    @property
    def _log(self) -> Path:
        return self.folder / gpu.LOG


def usable() -> bool:
    """Whether vLLM is installed and there is a GPU for it."""
    return find_spec("vllm") is not None and has_gpu()


def has_gpu() -> bool:
    """Whether there is a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()


def _dtype(base: str, asked: str) -> str:
    """The dtype to ask for. vLLM's own `auto` would make 16 bits of 32, unlike transformers'."""
    if asked != "auto":
        return asked
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(base).dtype
    return "auto" if stored is None else str(stored).removeprefix("torch.")


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return max(map(int, [config["r"], *config.get("rank_pattern", {}).values()]))


def _room_for(rank: int) -> int:
    for room in LORA_RANKS:
        if rank <= room:
            return room
    raise DeeperError(
        f"an adapter of rank {rank} is more than vLLM's {LORA_RANKS[-1]}; lower training.lora_rank, or set"
        " sampler.engine to transformers"
    )
