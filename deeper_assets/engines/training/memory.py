"""How much memory a training needs on each device, from the model's config and the longest examples.

An estimate, not a bound: activations are counted from the widths of the linear layers, and allocators keep
some in reserve. `OVERHEAD` stands for that and for the device's own libraries.
"""

import errno
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper_assets.engines.training import launching
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.shared_prompts import SMALL_LOGITS
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.method.recipes import Training

OVERHEAD = 1.1
"""What allocators take beyond what they hand out."""

_TILE = 4096 * 32_768
"""Logits that TRL's fused head computes at once, at most: tokens × words of the vocabulary."""

_ADAPTER_WEIGHT = 16
"""Bytes of a trained weight: itself, its gradient and AdamW's two moments, 32-bit floats all."""


@dataclass(frozen=True)
class Memory:
    """What one device needs, bytes.

    Attributes:
        base: weights that do not change, and under FSDP the layers gathered while they compute.
        adapter: weights that train, with their gradients and AdamW's moments.
        activations: what the backward pass needs of the longest examples.
        logits: of the vocabulary, those that are computed at once.
        available: what there is on the device; on the CPU, this process's share of the machine's.
    """

    base: int
    adapter: int
    activations: int
    logits: int
    available: int

    @property
    def needed(self) -> int:
        """All of it together, bytes."""
        return round(OVERHEAD * (self.base + self.adapter + self.activations + self.logits))

    @property
    def fits(self) -> bool:
        """Whether it is less than there is."""
        return self.needed <= self.available

    def __str__(self) -> str:
        parts = [
            f"{name} {readable(getattr(self, name))}" for name in ("base", "adapter", "activations", "logits")
        ]
        return (
            f"memory of a device: about {readable(self.needed)} needed ({', '.join(parts)}), "
            f"{readable(self.available)} available"
        )


def estimate(
    model: Any,
    training: Training,
    hardware: Hardware,
    *,
    packed: Sequence[int],
    fused: bool,
    devices: int,
    available: int,
) -> Memory:
    """The memory that a training needs on each device.

    Args:
        model: a PeftModel, on the meta device, in the types it will have.
        training: as in the job.
        hardware: as in the job.
        packed: tokens of each example, its prompt once and its completions behind it.
        fused: whether logits are always computed in tiles.
        devices: how many share the work.
        available: bytes there are on one of them.
    """
    config = model.config.get_text_config()
    width = model.get_input_embeddings().weight.element_size()
    tokens = training.examples_at_once * max(packed)
    activations = _activations(model, tokens, max(packed), width, hardware.gradient_checkpointing)
    base, trained = _weights(model)
    a_weight = _ADAPTER_WEIGHT
    if hardware.sharding == "fsdp" and devices > 1:
        # Two layers at a time (one computes, the next is fetched) and the head, gathered for the fused head
        # and kept by its own group.
        layer = base // config.num_hidden_layers
        head = model.get_output_embeddings().weight.nbytes
        base = base // devices + 2 * layer + 2 * head
        trained = -(-trained // devices)
    elif devices > 1:
        a_weight += 4  # DDP sends gradients from copies of its own
    size = tokens * config.vocab_size
    if fused or size > SMALL_LOGITS:
        logits = min(size, _TILE) * width + 4 * tokens * config.hidden_size
    else:
        logits = size * (width + 3 * 4)  # as they come, as floats, their softmax and its gradient
    return Memory(base, trained * a_weight, activations, logits, available)


def meta_model(base: str, dtype: Any, lora: Any) -> Any:
    """The model with its adapter as shapes and types alone, from the base's config.

    Args:
        base: folder or hub name of the base model.
        dtype: of its weights.
        lora: PEFT's config of the adapter.

    Raises:
        DeeperError: the config is missing or damaged.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base, local_files_only=Path(base).is_dir())
        with torch.device("meta"):
            return get_peft_model(AutoModelForCausalLM.from_config(config, dtype=dtype), lora)
    except Exception as error:
        raise DeeperError(f"base model {base} cannot be loaded: {one_line(error)}") from error


def available(devices: int, *, gpu: bool) -> int:
    """Bytes that this process may still take: of its GPU, or its share of the machine's memory."""
    import torch

    if gpu:
        return int(torch.cuda.mem_get_info(launching.local_rank())[0])
    return _machine_memory() // devices


def peak(*, gpu: bool) -> int:
    """Bytes that this process took at most: of its GPU by tensors, or of the machine in all."""
    import torch

    if gpu:
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def advice(training: Training, hardware: Hardware) -> str:
    """The settings to change where memory does not suffice, with their present values."""
    ways = [
        f"training.examples_at_once (now {training.examples_at_once})",
        f"training.max_length (now {training.max_length})",
    ]
    lower = f"lower {' or '.join(ways)}"
    raised = [
        f"hardware.gradient_checkpointing to true (now {str(hardware.gradient_checkpointing).lower()})",
        f"hardware.sharding to fsdp (now {hardware.sharding})",
        f"hardware.devices to more GPUs (now {hardware.devices})",
    ]
    return f"{lower}; or set {', '.join(raised)}"


def ran_out(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out, as torch, the C++ library or the system says it."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate",
    "not enough memory",
    "bad_alloc",
    "Cannot allocate memory",
)


def readable(size: float) -> str:
    """Bytes as people write them: 3.2 MB, 16.1 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _weights(model: Any) -> tuple[int, int]:
    """Bytes of what stays as it is, and how many weights are trained."""
    parameters = list(model.parameters())
    fixed = sum(weight.nbytes for weight in parameters if not weight.requires_grad)
    return fixed, sum(weight.numel() for weight in parameters if weight.requires_grad)


def _activations(model: Any, tokens: int, longest: int, width: int, checkpointing: bool) -> int:
    """Bytes kept for the backward pass: of every layer, or of one and the input of each."""
    config = model.config.get_text_config()
    layers, hidden = config.num_hidden_layers, config.hidden_size
    adapted = [
        layer for layer in model.modules() if hasattr(layer, "lora_A") and hasattr(layer, "base_layer")
    ]
    a_token = sum(_of_linear(layer, width) for layer in adapted) // layers
    a_token += hidden * 2 * (4 + width)  # the two norms, which compute in 32 bits
    whole = tokens * a_token + tokens * longest * (1 + width)  # the mask, and as the kernel wants it
    if checkpointing:
        return int(layers * tokens * hidden * width + 2 * whole)  # that layer's gradients too
    return int(layers * whole)


def _of_linear(layer: Any, width: int) -> int:
    """Bytes a token that a layer with an adapter keeps: its input, that after dropout, its output."""
    dropout = layer.lora_dropout["default"]
    drops = 0 if type(dropout).__name__ == "Identity" else width + 1
    return int(layer.in_features * (width + drops) + layer.out_features * width + layer.r["default"] * width)


def _machine_memory() -> int:
    """Bytes that are available on the machine, or to this process where it may take less."""
    limits = [resource.getrlimit(resource.RLIMIT_AS)[0], _number(Path("/sys/fs/cgroup/memory.max"))]
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            there = int(line.split()[1]) * 1024
    return min([there, *(limit for limit in limits if limit > 0)])


def _number(path: Path) -> int:
    (text,) = _lines(path) or ["max"]
    return int(text) if text.isdecimal() else -1


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
