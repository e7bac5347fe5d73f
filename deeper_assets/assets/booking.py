"""What assets that ask the chat model have in common: what they ask is booked on them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import pandas as pd
from dagster import AssetExecutionContext

from deeper_assets.engines.chat.journal import Purpose, asking_for
from deeper_assets.method.asking import ChatSetup
from deeper_assets.partitions import columns_of
from deeper_assets.resources import Experiment

SAID = {
    "requests": "chat requests",
    "hits": "chat answers from the journal",
    "input_tokens": "chat prompt tokens",
    "output_tokens": "chat answer tokens",
    "cost_usd": "chat cost, US dollars",
    "saved_usd": "chat cost saved, US dollars",
}
"""What the metadata calls the columns of a `Usage`."""


@contextmanager
def booked(
    context: AssetExecutionContext, experiment: Experiment, output: str | None = None
) -> Iterator[ChatSetup]:
    """The cast; what is asked of it is booked on this asset, domain and run, and stands in the metadata.

    Args:
        context: of the asset.
        experiment: whose cast it is.
        output: the output that gets the metadata, where there are several.
    """
    domain = columns_of(context.partition_key)["domain"]
    purpose = Purpose(context.op_def.name, domain, context.run_id)
    with asking_for(purpose):
        yield experiment.chat
    if metadata := _spent(experiment, purpose):
        context.add_output_metadata(metadata, output_name=output)


def _spent(experiment: Experiment, purpose: Purpose) -> Mapping[str, int | float]:
    """What this run has asked for this asset; nothing where the chat model keeps no journal."""
    usage = experiment.usage()
    rows = usage.merge(pd.DataFrame([asdict(purpose)]))
    if rows.empty:
        return {}
    return {said: rows[column].sum().item() for column, said in SAID.items()}
