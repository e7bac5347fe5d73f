"""What assets that ask the chat model have in common: what they ask is booked on them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dagster import AssetExecutionContext

from deeper_assets.engines.journal import Purpose, asking_for
from deeper_assets.method.asking import Cast
from deeper_assets.partitions import columns_of
from deeper_assets.resources import Experiment


@contextmanager
def booked(
    context: AssetExecutionContext, experiment: Experiment, output: str | None = None
) -> Iterator[Cast]:
    """The cast; what is asked of it is booked on this asset, domain and run, and stands in the metadata.

    Args:
        context: of the asset.
        experiment: whose cast it is.
        output: the output that gets the metadata, where there are several.
    """
    purpose = Purpose(context.op_def.name, _domain(context.partition_key), context.run_id)
    with asking_for(purpose):
        yield experiment.cast
    if metadata := _spent(experiment, purpose):
        context.add_output_metadata(metadata, output_name=output)


def _domain(partition_key: str) -> str:
    return columns_of(partition_key, "domain")["domain"]


def _spent(experiment: Experiment, purpose: Purpose) -> Mapping[str, int | float]:
    """What this run has asked for this asset; nothing where the chat model keeps no journal."""
    rows = [row for row in experiment.usage() if Purpose(row.asset, row.domain, row.run_id) == purpose]
    if not rows:
        return {}
    return {
        "chat requests": sum(row.requests for row in rows),
        "chat answers from the journal": sum(row.hits for row in rows),
        "chat prompt tokens": sum(row.input_tokens for row in rows),
        "chat answer tokens": sum(row.output_tokens for row in rows),
        "chat cost, US dollars": sum(row.cost_usd for row in rows),
        "chat cost saved, US dollars": sum(row.saved_usd for row in rows),
    }
