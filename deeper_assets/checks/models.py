"""Checks on models: what is stored is what was trained. All of them block."""

from hashlib import sha256

import pandas as pd
from dagster import AssetCheckResult

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


CHECKS: list[Check] = [check(f"model_{number}", blocking=True)(adapter_whole) for number in ITERATIONS]
