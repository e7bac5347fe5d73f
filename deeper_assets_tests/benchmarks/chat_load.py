"""The same load by three clients on the stand-in's own server.

`python -m deeper_assets_tests.benchmarks.chat_load`.

This project's client, bespokelabs-curator and distilabel ask the same distinct prediction prompts: without
faults, with faults of every kind, and killed in the middle (SIGKILL to all their processes) and run again.
What was paid for is the server's count. The two others live in virtual environments of their own, made at the
first run, and go through their public API with their cache switched on (`chat_clients/`). A client whose
server has heard nothing for a minute is taken to stand still, and stopped. Prints a Markdown table.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.method.domains import find_domain
from deeper_assets.method.prompts import Prompts
from deeper_assets_tests.benchmarks.whole_runs import memory_of
from deeper_assets_tests.chat_server.process import ChatServer, chat_server

PEERS = {
    "curator": ["bespokelabs-curator==0.1.31"],
    "distilabel": ["distilabel[openai]==1.5.3", "requests"],  # it imports requests without asking for it
}
"""Other clients, and what has to be installed for each."""

TIMEOUT = 2
"""Seconds a client waits for an answer: whole ones are all that the others take."""

QUIET = 60.0
"""Seconds without a request after which a client stands still; none of them waits as long between tries."""

_SILENT = {
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "DISTILABEL_LOG_LEVEL": "WARNING",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_API_KEY": "none",
    "TELEMETRY_ENABLED": "false",
}
"""So that nothing but the load goes over the network, and nobody draws progress."""


@dataclass(frozen=True)
class Load:
    """What is asked, and how.

    Attributes:
        prompts: distinct ones.
        concurrency: requests at once.
        latency: seconds until the server answers.
        faults: share of requests that meet one, where there are any.
    """

    prompts: list[str]
    concurrency: int
    latency: float
    faults: float


@dataclass(frozen=True)
class Outcome:
    """What came of a load.

    Attributes:
        seconds: of the client's call, without its start; None where it stood still.
        answers: in the order of the prompts; None where there is none. Empty where the client stood still.
        counted: the server's counts.
        peak: memory of the client and its processes (MB).
    """

    seconds: float | None
    answers: list[str | None]
    counted: dict[str, Any]
    peak: float


def make_prompts(number: int) -> list[str]:
    """As many distinct prediction prompts, of the length that personas and windows have."""
    persona = (
        "This reader loves slow mysteries and family sagas, likes travel writing and essays, has doubts "
        "about romances, and dislikes horror. They value careful prose and dry humour, and lose patience "
        "with stories that are longer than they need to be. "
    )
    subjects = ["murder", "voyage", "family", "dragon", "garden", "winter", "letter", "river", "city", "war"]
    titles = [f"The {subject} of the old house" for subject in subjects]
    return [
        Prompts().prediction(find_domain("book"), f"{persona * 2}Reader number {place}.", titles)
        for place in range(number)
    ]


class Client:
    """One of the clients, started as a process for each load."""

    def __init__(self, name: str, python: Path, folder: Path):
        self.name, self._python, self._folder = name, python, folder

    def run(self, load: Load, faults: float) -> Outcome:
        """Asks everything once."""
        with chat_server("--latency", load.latency, "--faults", faults) as server:
            return self._to_the_end(self._start(server, load), server)

    def run_killed(self, load: Load) -> Outcome:
        """Asks, is killed when half the prompts have been paid for, and is run again."""
        with chat_server("--latency", load.latency) as server:
            process = self._start(server, load)
            while server.stats()["paid"] < len(load.prompts) / 2 and process.poll() is None:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return self._to_the_end(self._start(server, load), server)

    def _start(self, server: ChatServer, load: Load) -> subprocess.Popen[bytes]:
        home = self._folder / server.root.rsplit(":", 1)[1]  # the port: a home of its own for each server
        home.mkdir(exist_ok=True)
        self._prompts.write_text(json.dumps(load.prompts))
        self._answers.unlink(missing_ok=True)
        script = Path(__file__).parent / "chat_clients" / f"with_{self.name}.py"
        files = [self._prompts, home, self._answers]
        command = [self._python, script, server.url, *files, load.concurrency, TIMEOUT]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **_SILENT, "HF_HOME": str(home / "huggingface")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _to_the_end(self, process: subprocess.Popen[bytes], server: ChatServer) -> Outcome:
        peak, requests, heard = 0.0, -1, time.monotonic()
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            if (now := server.stats()["requests"]) != requests:
                requests, heard = now, time.monotonic()
            if time.monotonic() - heard > QUIET:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Outcome(None, [], server.stats(), peak)
            time.sleep(0.5)
        if process.returncode:
            log = (self._folder / "log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name}: exit {process.returncode}\n{log}")
        outcome = json.loads(self._answers.read_text())
        return Outcome(outcome["seconds"], outcome["answers"], server.stats(), peak)

    @property
    def _prompts(self) -> Path:
        return self._folder / "prompts.json"

    @property
    def _answers(self) -> Path:
        return self._folder / "answers.json"


def make_client(name: str, peers: Path, folder: Path) -> Client:
    """A client; where it is somebody else's, in a virtual environment of its own under `peers`."""
    (folder / name).mkdir()
    if name not in PEERS:
        return Client(name, Path(sys.executable), folder / name)
    python = peers / name / "bin" / "python"
    if not python.exists():
        venv.create(peers / name, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
    return Client(name, python, folder / name)


def row(client: Client, load: Load) -> list[str]:
    """A client's figures."""
    plain, faulty = client.run(load, 0.0), client.run(load, load.faults)
    killed = client.run_killed(load)
    number = len(load.prompts)
    whole = [answer.text for answer in OfflineChatModel().answer(load.prompts)]
    right = sum(answer == text for answer, text in zip(faulty.answers, whole, strict=False))
    wrong = sum(answer is not None for answer in faulty.answers) - right
    still = "stands still"
    return [
        client.name,
        f"{number / plain.seconds:.1f}" if plain.seconds else still,
        f"{number / faulty.seconds:.1f}" if faulty.seconds else still,
        f"{plain.seconds / faulty.seconds:.0%}" if plain.seconds and faulty.seconds else still,
        f"{right:,}",
        f"{wrong:,}",
        f"{faulty.counted['paid_again']:,}",
        f"{killed.counted['paid_again']:,}",
        f"{sum(answer is not None for answer in killed.answers):,}" if killed.seconds else still,
        f"{max(plain.peak, faulty.peak):.0f}",
    ]


COLUMNS = [
    "client",
    "prompts/s",
    "with faults",
    "of that",
    "right answers",
    "half texts taken for answers",
    "paid again",
    "paid again after a kill",
    "answers after a kill",
    "peak MB",
]


def main() -> None:
    """Parses the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--faults", type=float, default=0.2)
    parser.add_argument("--clients", nargs="+", default=["deeper", *PEERS], choices=["deeper", *PEERS])
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "deeper-peers")
    given = parser.parse_args()
    load = Load(make_prompts(given.requests), given.concurrency, given.latency, given.faults)
    print(
        f"{given.requests:,} prompts, {given.concurrency} at once, {given.latency:g} s each: "
        f"{given.concurrency / given.latency:.0f}/s at most; faults: {given.faults:.0%} of requests\n"
    )
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="deeper-chat-load-") as folder:
        for name in given.clients:
            client = make_client(name, given.peers, Path(folder))
            print(f"| {' | '.join(row(client, load))} |", flush=True)


if __name__ == "__main__":
    main()
