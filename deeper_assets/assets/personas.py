"""Personas: the frozen chat model's first impression of every user. By domain."""

from typing import get_args

import pandas as pd
from dagster import Output

from deeper_assets.declaring import table
from deeper_assets.method import initial
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import Domain
from deeper_assets.method.errors import share_missing
from deeper_assets.method.parsing import RATINGS_VERSION
from deeper_assets.method.placing import Placing


def with_share(rows: pd.DataFrame, value: str) -> Output[pd.DataFrame]:
    """`rows`, and in their metadata the share of them whose `value` could not be read."""
    return Output(rows, metadata={"share unreadable": share_missing(rows[value])})


def with_placings(predictions: pd.DataFrame) -> Output[pd.DataFrame]:
    """`predictions`, and in their metadata the unreadable share and how the others found their items."""
    placed = predictions["placed"].value_counts()
    counts = {f"placed by {placing}": int(placed.get(placing, 0)) for placing in get_args(Placing)}
    return Output(
        predictions, metadata={"share unreadable": share_missing(predictions["predicted"]), **counts}
    )


@table("personas", templates=["initial_persona"])
def initial_personas(rating_windows: pd.DataFrame, domain: Domain, chat: ChatSetup) -> Output[pd.DataFrame]:
    """S0: a persona of every user, written from W0 by the frozen chat model."""
    return with_share(initial.initial_personas(rating_windows, domain, chat), "persona")


@table("personas", templates=["prediction"], code_version=RATINGS_VERSION)
def initial_predictions(
    rating_windows: pd.DataFrame, initial_personas: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> Output[pd.DataFrame]:
    """S0's predictions for the windows that training contexts, their rewards and round 0 need."""
    return with_placings(initial.initial_predictions(rating_windows, initial_personas, domain, chat))
