"""How much memory a training needs on each device, from the model's config and the longest examples.

An estimate, not a bound: activations are counted from the widths of the linear layers, and allocators keep
some in reserve. `OVERHEAD` stands for that and for the device's own libraries.
"""

import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper_assets.engines.training import launching
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.method.recipes import Training

OVERHEAD = 1.1
"""What allocators take beyond what they hand out."""

SMALL_LOGITS = 2**26
"""Logits (tokens × vocabulary) that are computed at once: 256 MB as floats. More are computed in tiles."""

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
    model: Any, training: Training, hardware: Hardware, *, packed: Sequence[int], devices: int, available: int
) -> Memory:
    """The memory that a training of `model` needs on each device.

    The model is a PeftModel on the meta device, in the types it will have. `packed` has the tokens of each
    example, its prompt once and its completions behind it; `available` is bytes on one device.
    """
    config = model.config.get_text_config()
    width = model.get_input_embeddings().weight.element_size()
    tokens = training.examples_at_once * max(packed)
    activations = _activations(model, tokens, max(packed), width, hardware.gradient_checkpointing)
    weights = list(model.parameters())
    base = sum(weight.nbytes for weight in weights if not weight.requires_grad)
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
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
    if size > SMALL_LOGITS:
        logits = min(size, _TILE) * width + 4 * tokens * config.hidden_size
    else:
        logits = size * (width + 3 * 4)  # as they come, as floats, their softmax and its gradient
    return Memory(base, trained * a_weight, activations, logits, available)


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


def readable(size: float) -> str:
    """Bytes as people write them: 3.2 MB, 16.1 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _activations(model: Any, tokens: int, longest: int, width: int, checkpointing: bool) -> int:
    """Bytes kept for the backward pass: of every layer, or of one and the input of each."""
    config = model.config.get_text_config()
    layers, hidden = config.num_hidden_layers, config.hidden_size
    adapted = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
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
    import psutil

    limits = [psutil.virtual_memory().available]
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most > 0:
        limits.append(most)
    with suppress(OSError, ValueError):  # no container, or one whose limit is "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return min(limits)
