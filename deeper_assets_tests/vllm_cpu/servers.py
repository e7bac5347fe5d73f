"""vLLM's own servers, on this machine, as others would run them."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from urllib.request import urlopen

from deeper_assets.engines.sampling.server_keeper import MODULE
from deeper_assets.engines.sampling.vllm_server import ServerOptions, has_gpu
from deeper_assets_tests.vllm_cpu import stand_in_variables

STARTING = 300.0
"""Seconds that servers may take until they answer."""


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
        except OSError:
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
def vllm_servers(python: str, number: int, base: Path, logs: Path) -> Iterator[list[VllmServer]]:
    """Replicas of `base` that take adapters at run time, until the block ends.

    Args:
        python: the interpreter of vLLM's environment.
        number: how many.
        base: folder of the model.
        logs: folder for what they print.
    """
    with ExitStack() as running:
        servers = [_start(python, base, logs / f"server-{i}.log") for i in range(number)]
        for server in servers:
            running.callback(_end, server)
        started = time.monotonic()
        while not all(server.answers for server in servers):
            for server in servers:
                if server.process.poll() is not None or time.monotonic() - started > STARTING:
                    raise AssertionError(f"{server.root} does not start:\n{server.log.read_text()[-4000:]}")
            time.sleep(0.5)
        yield servers


def _start(python: str, base: Path, log: Path) -> VllmServer:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ServerOptions().arguments(str(base), None, not has_gpu())
    variables = stand_in_variables(python) | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    del variables["PYTHONPATH"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [python, "-m", MODULE, "--host", "127.0.0.1", "--port", str(port), *options],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return VllmServer(f"http://127.0.0.1:{port}", process, log)


def _end(server: VllmServer) -> None:
    if server.process.poll() is None:
        server.kill()
