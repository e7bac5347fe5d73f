"""Training at the paper's size: `python -m deeper_assets_tests.benchmarks.training_8b` on a GPU.

Llama-3.1-8B's architecture with random weights, the paper's lengths, LoRA of rank 16, pairs; the trainer is
the project's own. Prints tokens a second and the highest memory, with the reference's log-probabilities
computed before training and in every step, beside what the GPU's measured bf16 rate would allow. Examples are
drawn as token ids, because what is timed does not depend on what they say. `--small` is a tiny model of the
same vocabulary with texts of a tenth of the length, on a CPU too, in under a minute.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeper_assets.engines.training import memory
from deeper_assets.engines.training.examples import Example, Examples
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.policies import load_tokenizer
from deeper_assets.engines.training.steps import Plan
from deeper_assets.engines.training.trainer import PreferenceTrainer
from deeper_assets.method.recipes import Training
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy

VOCABULARY = 128_256
LLAMA_8B = {
    "vocab_size": VOCABULARY,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
}
SMALL = LLAMA_8B | {
    "hidden_size": 64,
    "intermediate_size": 224,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
}
LENGTHS = ((700, 900), (245, 430))
"""Tokens of a prompt and of a persona: from, to."""

WARM_UP = 1
"""Optimizer steps before the clock starts."""


@dataclass(frozen=True)
class Measured:
    """One training.

    Attributes:
        precomputed: whether the reference was scored before.
        scoring: seconds that took, of all examples.
        seconds: of the steps that count.
        tokens: in them; a prompt counts once for both its personas, as it is read.
        twice: the same with a prompt for each persona, as TRL reads and others report it.
        peak: bytes, the highest.
        expected: what had been estimated.
    """

    precomputed: bool
    scoring: float
    seconds: float
    tokens: int
    twice: int
    peak: int
    expected: memory.Memory


def draw_examples(count: int, shorter: int, seed: int = 0) -> list[Example]:
    """Pairs of the paper's lengths, or so many times shorter."""
    drawn = np.random.default_rng(seed)

    def ids(lowest: int, highest: int) -> Any:
        size = drawn.integers(lowest // shorter, highest // shorter)
        return drawn.integers(10, VOCABULARY, size=size, dtype=np.int32)

    prompt, persona = LENGTHS
    return [Example(ids(*prompt), (ids(*persona), ids(*persona)), (1.0, 0.0), False) for _ in range(count)]


def measure(job: TrainingJob, config: dict[str, Any], steps: int, *, gpu: bool) -> Measured:
    """Trains for some steps, each on examples of its own, and times all but the first."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    training, a_step = job.training, job.training.batch_size
    examples = draw_examples(a_step * (WARM_UP + steps), shorter=1 if config is LLAMA_8B else 10)
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    with torch.device(device):
        base = LlamaForCausalLM._from_config(LlamaConfig(**config), dtype=dtype)
    plan = Plan(a_step // training.examples_at_once, WARM_UP + steps, 1, ())
    times: list[float] = []
    trainer = PreferenceTrainer(
        job,
        plan,
        Examples(examples, [], {}),
        base,
        load_tokenizer(job.base),
        job.output,
        lambda _: times.append(time.monotonic()),
        gpu=gpu,
    )
    trainer.args.save_strategy = "no"
    packed = [example.packed for example in examples]
    available = memory.available(1, gpu=gpu)
    expected = memory.estimate(
        trainer.model, training, job.hardware, packed=packed, devices=1, available=available
    )
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    begun = time.monotonic()
    trainer.take_reference()
    scoring = time.monotonic() - begun
    trainer.train()
    share = steps / (WARM_UP + steps)  # drawn alike, so each step has its share
    twice = sum(2 * len(of.prompt) + sum(map(len, of.completions)) for of in examples)
    return Measured(
        job.hardware.precompute_reference,
        scoring,
        times[WARM_UP + steps - 1] - times[WARM_UP - 1],
        round(share * sum(packed)),
        round(share * twice),
        memory.peak(gpu=gpu),
        expected,
    )


def matmul_rate(*, gpu: bool) -> float:
    """Floating-point operations a second that large products reach: bf16 on a GPU, 32 bits on a CPU."""
    import torch

    device, dtype, size = ("cuda", torch.bfloat16, 8192) if gpu else ("cpu", torch.float32, 512)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = 50
    for _ in range(5):
        a @ b
    if gpu:
        torch.cuda.synchronize()
    begun = time.monotonic()
    for _ in range(times):
        a @ b
    if gpu:
        torch.cuda.synchronize()
    return 2.0 * size**3 * times / (time.monotonic() - begun)


def parameters(config: dict[str, Any]) -> int:
    """Weights of the model, embeddings included."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**config)).num_parameters()


def show(measured: Measured, weights: int, rate: float) -> None:
    """Prints one training's figures."""
    speed = measured.tokens / measured.seconds
    full, lora = (factor * weights * speed / rate for factor in (6, 4))
    when = "before training" if measured.precomputed else "in every step"
    print(f"reference {when}:")
    print(
        f"  {speed:,.0f} tokens/s; {measured.twice / measured.seconds:,.0f} with the prompt of each persona"
    )
    print(f"  {full:.1%} of the measured rate at 6·N a token, {lora:.1%} at the 4·N that LoRA needs")
    print(f"  memory: {memory.readable(measured.peak)} at most; {measured.expected}")
    if measured.precomputed:
        print(f"  scoring the reference took {measured.scoring:.1f} s beforehand, once")


def main(given: Sequence[str] | None = None) -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script on a CPU")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps that are timed")
    parser.add_argument("--examples-at-once", type=int, default=4, help="pairs that the GPU holds at a time")
    asked = parser.parse_args(given)

    import torch

    gpu = torch.cuda.is_available()
    if not (gpu or asked.small):
        raise SystemExit("there is no GPU; try --small")
    config = SMALL if asked.small else LLAMA_8B
    batch, at_once = (2, 1) if asked.small else (8 * asked.examples_at_once, asked.examples_at_once)
    training = Training(batch_size=batch, examples_at_once=at_once, bf16=gpu)
    hardware = Hardware(gradient_checkpointing=True, group_by_length=True)
    weights, rate = parameters(config), matmul_rate(gpu=gpu)
    name = torch.cuda.get_device_name() if gpu else "CPU"
    print(f"{name}: {rate / 1e12:.4g} TFLOP/s in {'bf16' if gpu else '32-bit'} products; N = {weights:,}")
    print(
        f"{batch} pairs a step, {at_once} at once, LoRA rank {training.lora_rank}, {asked.steps} steps timed"
    )
    with tempfile.TemporaryDirectory(prefix="deeper-8b-") as folder:
        base = save_tiny_policy(Path(folder) / "tokenizer")
        output = Path(folder) / "output"
        job = TrainingJob(str(base), base / "none", output, "pairwise", 1, training, hardware)
        for precomputed in (True, False):
            hardware = replace(hardware, precompute_reference=precomputed)
            show(measure(replace(job, hardware=hardware), config, asked.steps, gpu=gpu), weights, rate)
            gc.collect()
            if gpu:
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
