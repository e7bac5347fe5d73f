"""vLLM's own servers, on this machine."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from urllib.error import URLError
from urllib.request import urlopen

STARTING = 240.0
"""Seconds that a server may take until it answers."""


@dataclass(frozen=True)
class VllmServer:
    """A server that runs; `root` is its address without /v1."""

    root: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        return f"{self.root}/v1"

    @property
    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with urlopen(f"{self.root}/health", timeout=5):
                return True
        except (URLError, OSError):
            return False

    def written(self) -> int:
        """Texts it has written."""
        with urlopen(f"{self.root}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in lines
            if line.startswith("vllm:request_success_total")
        )

    def kill(self) -> None:
        """Ends it as a crash of the machine would: all of its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def vllm_servers(
    python: str, number: int, base: Path, logs: Path, on_cpu: bool = True
) -> Iterator[list[VllmServer]]:
    """Replicas of `base` that take adapters at run time, until the block ends.

    Args:
        python: the interpreter of vLLM's environment.
        number: how many.
        base: folder of the model.
        logs: folder for what they print.
        on_cpu: whether they are to run on the CPU.
    """
    with ExitStack() as running:
        servers = [_start(python, base, logs / f"server-{i}.log", on_cpu) for i in range(number)]
        for server in servers:
            running.callback(_end, server)
        started = time.monotonic()
        while not all(server.answers for server in servers):
            for server in servers:
                if server.process.poll() is not None or time.monotonic() - started > STARTING:
                    raise AssertionError(f"{server.root} does not start:\n{server.log.read_text()[-4000:]}")
            time.sleep(0.5)
        yield servers


def _start(python: str, base: Path, log: Path, on_cpu: bool) -> VllmServer:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(base)]
    command += ON_CPU if on_cpu else ()
    command += ["--host", "127.0.0.1", "--port", str(port), "--enable-lora", "--max-lora-rank", "16"]
    env = {
        **os.environ,
        **(CPU_VARIABLES if on_cpu else {}),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    return VllmServer(f"http://127.0.0.1:{port}", process, log)


def _end(server: VllmServer) -> None:
    if server.process.poll() is None:
        server.kill()


ON_CPU = (
    *("--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill"),
    *("--block-size", "32", "--kv-cache-memory-bytes", str(2**29)),
)
"""Options that a server on a CPU needs, for the same reasons as `vllm_sampler` does."""

CPU_VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
"""One process less to start, no server tied to the core of another, and one thread, as the samplers have."""
