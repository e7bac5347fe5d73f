"""What every room does with frames, and pandas does otherwise."""

from collections.abc import Sequence

import pandas as pd


def stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames' rows below one another. An empty frame among others does not change their types."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def text_in(cell: object) -> str | None:
    """The text in a cell; None where there is none, for which pandas may have NaN."""
    return cell if isinstance(cell, str) else None
