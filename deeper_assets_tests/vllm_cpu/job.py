"""Samples in the environment that runs it: `python -m deeper_assets_tests.vllm_cpu.job JOB.json RESULT.json`.

JOB holds steps, each with engine, base, adapter, options, prompts, seeds and decoding; RESULT gets for each
the samples, the seconds that took, and which engine of the process wrote them. It imports nothing but the
engines, so that vLLM's environment needs neither Dagster nor the trainer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from deeper_assets.engines.sampling import vllm_sampler
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import EngineOptions, VllmSampler
from deeper_assets.method.protocols import Decoding, Sample, Sampler

PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    """One call of a sampler.

    Attributes:
        engine: which one.
        merges: whether vLLM gets an adapter merged into the base, as on a CPU, or along with requests.
    """

    engine: Literal["transformers", "vllm"]
    base: str
    prompts: Sequence[str]
    seeds: Sequence[Sequence[int]]
    decoding: Decoding
    adapter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    merges: bool = True


@dataclass(frozen=True)
class Done:
    """What came of a step: samples, seconds, and a number that tells the process's engines apart."""

    samples: list[list[Sample]]
    seconds: float
    engine: int


def run_elsewhere(python: str, steps: Sequence[Step], folder: Path, **variables: str) -> list[Done]:
    """Runs steps in one process of another environment.

    Args:
        python: its interpreter.
        steps: what to do, in order.
        folder: for the files that go to and fro.
        variables: of its environment.
    """
    job, result = folder / "job.json", folder / "result.json"
    job.write_text(json.dumps([asdict(step) for step in steps]))
    command = [python, "-m", "deeper_assets_tests.vllm_cpu.job", str(job), str(result)]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE), "HF_HUB_OFFLINE": "1", **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-4000:]}")
    return [
        Done([[Sample(**sample) for sample in of] for of in step["samples"]], step["seconds"], step["engine"])
        for step in json.loads(result.read_text())
    ]


def run(step: Mapping[str, Any]) -> Done:
    """Runs one step in this process."""
    adapter = Path(step["adapter"]) if step["adapter"] else None
    vllm_sampler._merges_adapters = lambda: step["merges"]
    sampler: Sampler = (
        VllmSampler("job", step["base"], adapter, EngineOptions(**step["options"]))
        if step["engine"] == "vllm"
        else TransformersSampler("job", step["base"], adapter)
    )
    started = time.perf_counter()
    samples = sampler.sample(step["prompts"], step["seeds"], Decoding(**step["decoding"]))
    return Done(samples, time.perf_counter() - started, id(vllm_sampler._loaded))


def main() -> None:
    """Runs the job of a file."""
    steps = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([asdict(run(step)) for step in steps]))


if __name__ == "__main__":
    main()
