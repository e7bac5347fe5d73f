"""The trainer as one of several processes that shard the policy, without GPUs.

FSDP2 itself computes on CPUs (by gloo); accelerate 1.15 only switches it on for GPUs and their like, in
`AcceleratorState.__init__`. Here it is told that its processes have some.
"""

import sys
from typing import Any

from accelerate.state import DistributedType, PartialState

from deeper_assets.engines.dpo_trainer import main

_as_it_is = PartialState.__init__


def _as_if_with_gpus(state: PartialState, *given: Any, **named: Any) -> None:
    _as_it_is(state, *given, **named)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = _as_if_with_gpus
    sys.exit(main())
