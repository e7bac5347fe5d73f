"""How examples become optimizer steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.recipes import Training


@dataclass(frozen=True)
class Plan:
    """The steps of a training.

    Attributes:
        accumulation: batches that each device computes for one step.
        steps: optimizer steps in all.
        warmup_steps: those until the highest learning rate.
        notes: what is done otherwise than asked, in words.
    """

    accumulation: int
    steps: int
    warmup_steps: int
    notes: tuple[str, ...]


def plan_steps(training: Training, examples: int, devices: int) -> Plan:
    """The steps that `examples` training examples make on so many devices.

    Warm-up takes half of all steps at most, or a small training would never reach its learning rate.

    Raises:
        DeeperError: the batch cannot be divided so, or no training can be like this.
    """
    if (impossible := training.impossible()) is not None:
        raise DeeperError(impossible)
    at_once = training.examples_at_once * devices
    if training.batch_size % at_once:
        raise DeeperError(
            f"training.batch_size {training.batch_size} cannot be divided by examples_at_once × devices = "
            f"{training.examples_at_once} × {devices} = {at_once}; choose a multiple of {at_once}, or other "
            "hardware.devices"
        )
    steps = math.ceil(training.epochs * math.ceil(examples / training.batch_size))
    wanted = math.ceil(training.warmup * steps) if training.warmup < 1 else int(training.warmup)
    warmup = min(wanted, steps // 2)
    notes = (f"warm-up of {wanted} steps cut to {warmup}, half of all {steps}",) if warmup < wanted else ()
    return Plan(training.batch_size // at_once, steps, warmup, notes)


def repeats(training: Training, counts: Mapping[str, int], devices: int) -> tuple[str, ...]:
    """What several devices take twice at the end of a pass, in words; one device takes everything once.

    `counts` has the examples of each kind.
    """
    at_once = training.examples_at_once * devices
    again = {kind: -count % at_once if devices > 1 else 0 for kind, count in counts.items()}
    return tuple(
        f"each pass over {kind} takes {again[kind]} of {count} examples twice, so that "
        f"{devices} devices have as many"
        for kind, count in counts.items()
        if again[kind]
    )
