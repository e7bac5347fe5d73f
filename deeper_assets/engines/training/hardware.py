"""The machine that trains: how many devices there are, and how a model is laid on them.

None of this is the method's: the same examples share an optimizer step whatever is set here, so the outcome
is the same up to the last bits of floats. Two things differ a little more: with dropout each device draws its
own, and `group_by_length` puts other examples in one mean over tokens.
"""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Hardware:
    """What a training runs on. The defaults fit one device and a small model.

    Attributes:
        devices: processes that train together, one a GPU; `all` for every GPU that is visible. On a machine
            without GPUs a number starts as many processes on the CPU.
        sharding: `none` keeps a copy of the policy on every device (DDP); `fsdp` spreads its weights over
            them (FSDP2; GPUs only), for a policy that does not fit on one.
        gradient_checkpointing: activations are computed again instead of kept: far less memory, a third more
            work.
        precompute_reference: the reference's log-probabilities are computed once, before training; otherwise
            in every step, which costs a forward pass in each epoch instead of one in all.
        group_by_length: the examples of an optimizer step are dealt out so that those of like length are
            computed together, with less padding.
    """

    devices: int | Literal["all"] = 1
    sharding: Literal["none", "fsdp"] = "none"
    gradient_checkpointing: bool = False
    precompute_reference: bool = True
    group_by_length: bool = False

    def identity(self) -> dict[str, Any]:
        """What of this an adapter depends on beyond the last bits of floats.

        Defaults are left out, so that adapters from before this could be set are not stale.
        """
        return {"group_by_length": True} if self.group_by_length else {}


ONE_DEVICE = Hardware()
