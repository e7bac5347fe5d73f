"""Personas: the frozen chat model's first impression of every user. By domain."""

from typing import Any

import pandas as pd
from dagster import AssetExecutionContext, AssetsDefinition, ResourceParam, asset

from deeper_assets.assets.booking import booked
from deeper_assets.assets.stored import stored
from deeper_assets.method import initial
from deeper_assets.method.errors import share_missing
from deeper_assets.partitions import Partitions
from deeper_assets.resources import Experiment


def initial_personas(
    context: AssetExecutionContext, experiment: ResourceParam[Experiment], rating_windows: pd.DataFrame
) -> pd.DataFrame:
    """S0: a persona of every user, written from W0 by the frozen chat model."""
    domain = experiment.domain(context.partition_key)
    with booked(context, experiment) as chat:
        personas = initial.initial_personas(rating_windows, domain, chat)
    context.add_output_metadata({"share unreadable": share_missing(personas["persona"])})
    return personas


def initial_predictions(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    initial_personas: pd.DataFrame,
) -> pd.DataFrame:
    """S0's predictions for the windows that training contexts, their rewards and round 0 need."""
    domain = experiment.domain(context.partition_key)
    with booked(context, experiment) as chat:
        predictions = initial.initial_predictions(rating_windows, initial_personas, domain, chat)
    context.add_output_metadata({"share unreadable": share_missing(predictions["predicted"])})
    return predictions


def build(partitions: Partitions) -> list[AssetsDefinition]:
    """The assets of this group."""
    made_by_domain: dict[str, Any] = {
        "partitions_def": partitions.domains,
        "group_name": "personas",
        "code_version": "1",
    }
    return [
        asset(**stored("initial_personas"), **made_by_domain)(initial_personas),
        asset(**stored("initial_predictions"), **made_by_domain)(initial_predictions),
    ]
