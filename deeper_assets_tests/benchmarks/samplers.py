"""Candidates a second of the three samplers: `python -m deeper_assets_tests.benchmarks.samplers`.

Fifteen candidates, by the paper's values, of refinement prompts from generated ratings; loading and a first
call are not counted. Each takes the machine for itself, one after the other, `--times` over. Without a GPU
that is the tiny policy, in a shape that vLLM takes there; with one, give `--policy` a folder or hub name. The
vLLM of another environment is used if DEEPER_TEST_VLLM names its interpreter (`vllm_cpu/setup.sh`).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deeper_assets.engines.sampling.vllm_server import VllmServerSampler
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.vllm_cpu.job import Step, run_elsewhere
from deeper_assets_tests.vllm_cpu.policies import refinement_prompts, save_adapter, save_wide_policy
from deeper_assets_tests.vllm_cpu.servers import vllm_servers

WARM_UP = 8
"""Prompts of the first call."""


@dataclass(frozen=True)
class Load:
    """What is to be written.

    Attributes:
        python: the interpreter of the environment that has vLLM.
        base, adapter: the policy.
        prompts, seeds, decoding: as a sampler is given them.
        on_cpu: whether there is no GPU.
        folder: for files.
    """

    python: str
    base: Path
    adapter: Path
    prompts: list[str]
    seeds: list[list[int]]
    decoding: Decoding
    on_cpu: bool
    folder: Path

    def steps(self, engine: Literal["transformers", "vllm"], **options: bool) -> list[Step]:
        """A first call and a timed one, of the base and with the adapter."""
        return [
            Step(
                engine,
                str(self.base),
                self.prompts[:prompts],
                self.seeds[:prompts],
                self.decoding,
                adapter,
                options,
                self.on_cpu,
            )
            for adapter in (None, str(self.adapter))
            for prompts in (WARM_UP, len(self.prompts))
        ]


Timed = tuple[float, list[list[Sample]]]
"""Seconds, and what was written in them."""


def in_process(load: Load, engine: Literal["transformers", "vllm"], **options: bool) -> Iterator[Timed]:
    """The base's time, and the adapter's."""
    # One thread: other cores have other workers of `deeper run`.
    done = run_elsewhere(load.python, load.steps(engine, **options), load.folder, OMP_NUM_THREADS="1")
    for step in done[1::2]:
        yield step.seconds, step.samples


def served(load: Load) -> Iterator[Timed]:
    """The same over HTTP, from this process, by one server."""
    with vllm_servers(load.python, 1, load.base, load.folder, load.on_cpu) as (server,):
        for adapter in (None, load.adapter):
            sampler = VllmServerSampler("served", str(load.base), (server.url,), adapter)
            sampler.sample(load.prompts[:WARM_UP], load.seeds[:WARM_UP], load.decoding)
            started = time.perf_counter()
            samples = sampler.sample(load.prompts, load.seeds, load.decoding)
            yield time.perf_counter() - started, samples


def once(load: Load) -> Iterator[tuple[str, Timed]]:
    """Every sampler once."""
    which = {
        "transformers": in_process(load, "transformers"),
        "vLLM in process": in_process(load, "vllm"),
        "vLLM in process, no prefix caching": in_process(load, "vllm", prefix_caching=False),
        "vLLM server": served(load),
    }
    for name, timed in which.items():
        for policy, of_policy in zip(("base", "adapter"), timed, strict=True):
            yield f"{name} | {policy}", of_policy


def table(rates: Mapping[str, list[float]], tokens: Mapping[str, float]) -> str:
    """Markdown: medians, extremes, and how many times the first row."""
    first = statistics.median(next(iter(rates.values())))
    lines = [
        "| sampler | policy | candidates/s | min to max | times | tokens a text |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in rates.items():
        median = statistics.median(of)
        lines.append(
            f"| {name} | {median:.0f} | {min(of):.0f} to {max(of):.0f} | {median / first:.2f} "
            f"| {tokens[name]:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parses the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", type=Path, help="folder or hub name; by default the tiny one")
    parser.add_argument("--prompts", type=int, default=80)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()

    import torch

    with tempfile.TemporaryDirectory(prefix="deeper-samplers-") as name:
        folder = Path(name)
        base = given.policy or save_wide_policy(folder / "policy")
        prompts = (refinement_prompts() * given.prompts)[: given.prompts]
        load = Load(
            os.environ.get("DEEPER_TEST_VLLM") or sys.executable,
            base,
            save_adapter(folder / "adapter", base, 1),
            prompts,
            [[1000 * place + number for number in range(15)] for place in range(len(prompts))],
            Decoding(max_new_tokens=given.max_new_tokens),
            not torch.cuda.is_available(),
            folder,
        )
        rates: dict[str, list[float]] = {}
        tokens: dict[str, float] = {}
        for _ in range(given.times):
            for which, (seconds, samples) in once(load):
                texts = [sample for of in samples for sample in of]
                rates.setdefault(which, []).append(len(texts) / seconds)
                tokens[which] = statistics.mean(sample.tokens for sample in texts)
                print(json.dumps({which: round(rates[which][-1], 1)}), file=sys.stderr, flush=True)
        print(table(rates, tokens))


if __name__ == "__main__":
    main()
