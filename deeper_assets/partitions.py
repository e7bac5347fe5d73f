"""How the graph is cut: by domain, and by domain and method.

Built from the settings when the code location loads, because a user's own domains are partitions too. Every
asset shares the very same domain dimension: Dagster maps between a dimension and its multi-partitions only
then.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dagster import MultiPartitionKey, MultiPartitionsDefinition, StaticPartitionsDefinition

from deeper_assets.method.updates import UPDATES


@dataclass(frozen=True)
class Partitions:
    """The partition definitions of one code location."""

    domains: StaticPartitionsDefinition
    domain_methods: MultiPartitionsDefinition


def partitions_of(domains: Iterable[str]) -> Partitions:
    """Partitions for the domains called so, and every method."""
    by_domain = StaticPartitionsDefinition(list(domains))
    by_method = StaticPartitionsDefinition(list(UPDATES))
    return Partitions(by_domain, MultiPartitionsDefinition({"domain": by_domain, "method": by_method}))


def columns_of(partition_key: str | MultiPartitionKey | None) -> dict[str, str]:
    """A partition key as values of the tables' partition columns; an unpartitioned asset has none."""
    if partition_key is None:
        return {}
    if isinstance(partition_key, MultiPartitionKey):
        return dict(partition_key.keys_by_dimension)
    return {"domain": partition_key}
