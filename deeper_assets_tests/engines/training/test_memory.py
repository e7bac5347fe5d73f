"""Memory that training takes: what is expected, what is really kept, and what is said when it runs out."""

import json
import logging
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from deeper_assets.engines.training import memory
from deeper_assets.engines.training.batches import pack
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.memory import Memory
from deeper_assets.engines.training.policies import lora_config, meta_model
from deeper_assets.engines.training.train import LOG, train
from deeper_assets.method.recipes import Training
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Llama-3.1-8B with an adapter, in shapes alone."""
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    return meta_model(str(folder), torch.bfloat16, Training())


def expected(model: Any, devices: int = 1, **hardware: Any) -> Memory:
    return memory.estimate(
        model,
        Training(),
        Hardware(devices=devices, **hardware),
        packed=[700, 1500],
        devices=devices,
        available=80 * 10**9,
    )


def test_eight_billion_parameters_by_hand(llama: Any) -> None:
    of = expected(llama, gradient_checkpointing=True)
    # Two bytes a weight: embeddings and head, 32 layers of attention, MLP and two norms, and the last norm.
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336 + 2 * 4096
    assert of.base == 2 * (2 * 128_256 * 4096 + 32 * layer + 4096) == 16_060_522_496
    # Rank 16 on every linear layer: 16 × (inputs + outputs), four floats a weight.
    ends = 2 * 8192 + 2 * 5120 + 3 * (4096 + 14_336)
    assert of.adapter == 16 * 16 * 32 * ends == 671_088_640
    # A tile of 4096 tokens × 32,768 words, and the gradient of the hidden states in 32 bits.
    assert of.logits == 2 * 4096 * 32_768 + 4 * 6000 * 4096
    assert of.available == 80 * 10**9


def test_checkpointing_and_shards_take_less(llama: Any) -> None:
    kept = expected(llama)
    again = expected(llama, gradient_checkpointing=True)
    sharded = expected(llama, devices=4, sharding="fsdp", gradient_checkpointing=True)
    assert kept.activations > 10 * again.activations
    assert not kept.fits
    assert again.fits
    assert sharded.adapter == again.adapter / 4
    # A quarter of the weights, two layers at a time, and the head twice.
    assert sharded.base == again.base // 4 + 2 * (again.base // 32) + 2 * (2 * 128_256 * 4096)
    # A copy of each process has the same, and its gradients once more, to send them.
    copied = expected(llama, devices=4, gradient_checkpointing=True)
    assert copied == replace(again, adapter=again.adapter * 20 // 16)
    assert str(again) == (
        "memory of a device: about 25.0 GB needed (base 16.1 GB, adapter 671.1 MB, "
        f"activations {again.activations / 1e9:.1f} GB, logits 366.7 MB), 80.0 GB available"
    )


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_as_many_activations_are_expected_as_are_kept(dropout: float, dtype: torch.dtype) -> None:
    """What torch really keeps for the backward pass of a model of the same kind."""
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    training = Training(examples_at_once=2, lora_dropout=dropout)
    model = get_peft_model(LlamaForCausalLM(config).to(dtype), lora_config(training)).train()
    batch = pack([list(range(200))] * 2, [[[1] * 50, [2] * 40], [[3] * 50, [4] * 50]], 0)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model.get_base_model().model(
            input_ids=batch["packed_ids"],
            position_ids=batch["packed_positions"],
            attention_mask=batch["packed_mask"],
            use_cache=False,
        )
    really = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    of = memory.estimate(
        model,
        training,
        Hardware(),
        packed=[batch["packed_ids"].shape[1]],
        devices=1,
        available=0,
    )
    assert 0.9 * really < of.activations < 1.25 * really


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    base = save_tiny_policy(tmp_path / "base")
    pairs = tmp_path / "pairs.parquet"
    prompt = "who are " + "very " * 1500 + "you ?"
    pd.DataFrame([(prompt, "i like films", "i never like", 0)] * 64).set_axis(
        ["prompt", "chosen", "rejected", "validation"], axis=1
    ).to_parquet(pairs)
    training = Training(
        lora_rank=4, max_length=2000, batch_size=64, examples_at_once=64, epochs=1, bf16=False
    )
    return TrainingJob(str(base), pairs, tmp_path / "output", "pairwise", 7, training, device="cpu")


def test_too_little_memory_is_foreseen(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "available", lambda devices, gpu: 1000)
    monkeypatch.setattr(LOG, "propagate", True)
    fewer = replace(job, training=replace(job.training, examples_at_once=1, batch_size=1, max_length=40))
    rows = pd.read_parquet(job.examples).assign(prompt="who are you ?").head(4)
    rows.to_parquet(job.examples)
    with caplog.at_level(logging.INFO):
        report = train(fewer, lambda _: None)
    assert report.memory.available == 1000 < report.memory.needed < report.memory_peak
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    advice = "lower training.examples_at_once (now 1) or training.max_length (now 40); or set "
    assert told[0] == ("INFO", str(report.memory))
    assert told[1][0] == "WARNING"
    assert told[1][1].startswith(f"memory will probably not suffice: {advice}")


RUN = """
import resource, sys
from deeper_assets.engines.training import __main__ as program
from deeper_assets.engines.training import trainer
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 400_000_000, -1))
sys.exit(program.main())
"""


@pytest.mark.slow
def test_running_out_names_the_settings_to_change(job: TrainingJob, tmp_path: Path) -> None:
    """400 MB more than the libraries take; the masks of 64 prompts of 1,500 tokens alone are 150 MB."""
    config = tmp_path / "job.json"
    config.write_text(json.dumps(asdict(job), default=str))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: out of memory (RuntimeError: ")
    assert line.endswith(
        "); lower training.examples_at_once (now 64) or training.max_length (now 2000); or set "
        "hardware.gradient_checkpointing to true (now false), hardware.sharding to fsdp (now none), "
        "hardware.devices to more GPUs (now 1)"
    )
    assert not (job.output / "adapter").exists()


def test_a_training_on_the_cpu_takes_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 5)
    assert memory.peak(gpu=True) == 5
    assert memory.peak(gpu=False) > 10**7


def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resource", SimpleNamespace(RLIMIT_AS=9, getrlimit=lambda _: (10**6, -1)))
    assert memory.available(2, gpu=False) == 500_000
