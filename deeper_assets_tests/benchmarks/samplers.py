"""How fast the samplers load and write: `python -m deeper_assets_tests.benchmarks.samplers`.

Fifteen candidates, by the paper's values, of refinement prompts from generated ratings. A first call of each
loads the policy and is timed apart. Each sampler takes the machine for itself, one after the other, `--times`
over. Without a GPU that is the tiny policy, in a shape that vLLM takes there; with one, give `--policy` a
folder or hub name. The vLLM of another environment is used if DEEPER_TEST_VLLM names its interpreter
(`vllm_cpu/setup.sh`).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling.gpu import dismiss
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import VllmSampler
from deeper_assets.engines.sampling.vllm_server import OwnServer, ServerOptions
from deeper_assets.method.protocols import Decoding, Sampler
from deeper_assets_tests.vllm_cpu import STAND_IN, stand_in_variables
from deeper_assets_tests.vllm_cpu.policies import refinement_prompts, save_adapter

WARM_UP = 8
"""Prompts of the first call."""


@dataclass(frozen=True)
class Load:
    """What is to be written.

    Attributes:
        base, adapter: the policy.
        prompts, seeds, decoding: as a sampler is given them.
        folder: for files.
    """

    base: Path
    adapter: Path
    prompts: list[str]
    seeds: list[list[int]]
    decoding: Decoding
    folder: Path


@dataclass(frozen=True)
class Timed:
    """One measurement: what of, seconds of the first call, candidates a second of the next, tokens a text."""

    sampler: str
    policy: str
    first: float
    rate: float
    tokens: float


def once(load: Load) -> Iterator[Timed]:
    """Every sampler once, with the base and with the adapter."""
    adapters = {"base": None, "adapter": load.adapter}
    for policy, adapter in adapters.items():
        yield timed(load, "transformers", policy, TransformersSampler("x", load.base, adapter))
    for name, options in (
        ("vLLM", ServerOptions()),
        ("vLLM, no prefix caching", ServerOptions(prefix_caching=False)),
    ):
        server = OwnServer(load.folder / "gpu", options, 600)
        for policy, adapter in adapters.items():
            yield timed(load, name, policy, VllmSampler("x", str(load.base), server, adapter))
        dismiss(server.folder)


def timed(load: Load, name: str, policy: str, sampler: Sampler) -> Timed:
    """Two calls of a sampler."""
    started = time.perf_counter()
    sampler.sample(load.prompts[:WARM_UP], load.seeds[:WARM_UP], load.decoding)
    loaded = time.perf_counter()
    samples = [one for of in sampler.sample(load.prompts, load.seeds, load.decoding) for one in of]
    seconds = time.perf_counter() - loaded
    tokens = statistics.mean(sample.tokens for sample in samples)
    return Timed(name, policy, loaded - started, len(samples) / seconds, tokens)


def table(measured: list[Timed]) -> str:
    """Markdown: medians, extremes, and how many times the first row."""
    of: dict[tuple[str, str], list[Timed]] = {}
    for one in measured:
        of.setdefault((one.sampler, one.policy), []).append(one)
    lines = [
        "| sampler | policy | first call, s | candidates/s | min to max | times | tokens a text |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    baseline = statistics.median(one.rate for one in next(iter(of.values())))
    for (sampler, policy), group in of.items():
        rates = [one.rate for one in group]
        lines.append(
            f"| {sampler} | {policy} | {statistics.median(one.first for one in group):.1f} "
            f"| {statistics.median(rates):.0f} | {min(rates):.0f} to {max(rates):.0f} "
            f"| {statistics.median(rates) / baseline:.2f} | {group[0].tokens:.1f} |"
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
    with tempfile.TemporaryDirectory(prefix="deeper-samplers-") as name:
        folder = Path(name)
        base = given.policy or SHIPPED
        prompts = (refinement_prompts() * given.prompts)[: given.prompts]
        load = Load(
            base,
            save_adapter(folder / "adapter", base, 1),
            prompts,
            [[1000 * place + number for number in range(15)] for place in range(len(prompts))],
            Decoding(max_new_tokens=given.max_new_tokens),
            folder,
        )
        if python := os.environ.get("DEEPER_TEST_VLLM"):
            sys.path.insert(0, str(STAND_IN))
            os.environ.update(stand_in_variables(python))
        measured = []
        for _ in range(given.times):
            for one in once(load):
                measured.append(one)
                print(json.dumps(asdict(one)), file=sys.stderr, flush=True)
        print(table(measured))


if __name__ == "__main__":
    main()
