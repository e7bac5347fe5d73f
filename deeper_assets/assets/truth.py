"""Planted truth: what generated users were generated with, and how well it predicts. By domain.

Nothing that writes or predicts descends from these tables: they stand beside, as ceilings.
"""

from dataclasses import fields

import pandas as pd
from dagster import Output

from deeper_assets.declaring import table
from deeper_assets.engines.offline.said import speak
from deeper_assets.method import ceilings, errors
from deeper_assets.method.domains import Domain
from deeper_assets.method.frames import stacked
from deeper_assets.reports.figures import round_figures
from deeper_assets.sources.shape import Source
from deeper_assets.sources.synthetic import PlantedItem, PlantedTruth, planted


@table(
    "truth",
    tables={
        "planted_truth": "What users were generated with: tastes, habit, noise, and what changed when.",
        "planted_items": "Generated items: theme, the word that shows it, and a quality that all share.",
    },
    planted=True,
)
def planted_truth(planted_source: Source | None, domain: Domain) -> list[Output[pd.DataFrame]]:
    """The truth behind generated ratings; empty for any others."""
    truth, items = planted(planted_source)
    frames = [
        pd.DataFrame(truth, columns=[field.name for field in fields(PlantedTruth)]),
        pd.DataFrame(items, columns=[field.name for field in fields(PlantedItem)]),
    ]
    return [Output(frame.assign(domain=domain.name)) for frame in frames]


@table("truth", planted=True)
def ceiling_errors(
    rating_windows: pd.DataFrame,
    planted_truth: pd.DataFrame,
    planted_items: pd.DataFrame,
    domain: Domain,
    stand_in: str | None,
) -> Output[pd.DataFrame]:
    """The errors of the truth, and of what the stand-in makes of it in words, where it is the chat model."""
    known = (rating_windows, planted_truth, planted_items, domain)
    predicted = [ceilings.truth_predictions(*known)]
    if stand_in is not None:
        predicted.append(ceilings.said_predictions(*known, speak))
    keys = ["domain", "ceiling", "user_id", "round", "window"]
    measured = errors.measured_windows(stacked(predicted), rating_windows, keys)
    return Output(measured, metadata=round_figures(measured))
