"""Checks on models: what is stored is what was trained."""

from hashlib import sha256
from typing import Any

import pandas as pd
from dagster import AssetCheckResult, AssetChecksDefinition, asset_check

from deeper_assets.partitions import Partitions

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
        metadata={"bytes": int(model["size"].sum())},
    )


def build(partitions: Partitions) -> list[AssetChecksDefinition]:
    """The checks on this group; all of them block."""
    blocking: dict[str, Any] = {"blocking": True, "partitions_def": partitions.recipes}
    return [asset_check(asset=f"model_{i}", **blocking)(adapter_whole) for i in (1, 2)]
