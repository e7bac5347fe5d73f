"""The trainer as one of several processes that shard the policy, without GPUs.

FSDP2 itself computes on CPUs (by gloo); accelerate 1.15 only switches it on for GPUs and their like, in
`AcceleratorState.__init__`. Here it is told that its processes have some. A job with bf16, which the trainer
computes in on GPUs only, computes in it here too, though the base is in 32 bits.
"""

import os
import sys
from pathlib import Path
from typing import Any

from accelerate.state import DistributedType, PartialState

from deeper_assets.engines.training.__main__ import main
from deeper_assets.engines.training.job import read_job

_as_it_is = PartialState.__init__


def _as_if_with_gpus(state: PartialState, *given: Any, **named: Any) -> None:
    _as_it_is(state, *given, **named)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = _as_if_with_gpus
    if read_job(Path(sys.argv[1])).training.bf16:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    sys.exit(main())
