"""Checks on models: what is stored is what was trained, and its texts come to an end. All of them block."""

from hashlib import sha256

import pandas as pd
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.declaring import Check, check
from deeper_assets.partitions import ITERATIONS

WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")


def adapter_whole(model: pd.DataFrame) -> AssetCheckResult:
    """The adapter's configuration and weights are there, and their bytes are those of their SHA-256."""
    missing = sorted(set(WEIGHTS) - set(model["file"]))
    damaged = [
        file
        for file, content, digest in zip(model["file"], model["content"], model["sha256"], strict=True)
        if sha256(content).hexdigest() != digest
    ]
    return AssetCheckResult(
        passed=not missing and not damaged,
        description=f"missing: {', '.join(missing) or 'none'}; damaged: {', '.join(damaged) or 'none'}",
        metadata={"bytes": int(model["size"].sum()), "missing": len(missing), "damaged": len(damaged)},
    )


ENDED_WARNS, ENDED_STOPS = 0.98, 0.8
"""Shares of texts that end, below which a policy runs on: what it does not end is cut, and no persona."""


def texts_end(model: pd.DataFrame) -> AssetCheckResult:
    """The trained policy's texts come to an end: a warning below 98 % of them, a stop below 80 %."""
    share = model["ended"].min()
    if pd.isna(share):
        return AssetCheckResult(passed=True, description="not measured")
    return AssetCheckResult(
        passed=bool(share >= ENDED_WARNS),
        severity=AssetCheckSeverity.ERROR if share < ENDED_STOPS else AssetCheckSeverity.WARN,
        description=f"{share:.1%} come to an end ({ENDED_WARNS:.0%} or more should, {ENDED_STOPS:.0%} must)",
        metadata={"share that comes to an end": float(share)},
    )


CHECKS: list[Check] = [
    check(f"model_{number}", blocking=True)(function)
    for number in ITERATIONS
    for function in (adapter_whole, texts_end)
]
