"""How the graph is cut: by domain, by recipe, by method, and by domain together with one of the others.

Built from the settings when the code location loads, because a user's own domains are partitions too. Every
asset shares the very same dimensions: Dagster maps between a dimension and its multi-partitions only then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dagster import (
    AllPartitionMapping,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionMapping,
    PartitionsDefinition,
    StaticPartitionMapping,
    StaticPartitionsDefinition,
)

from deeper_assets.method.exceptions import DeeperError

ITERATIONS = (1, 2)


@dataclass(frozen=True)
class Partitions:
    """The partition definitions of one code location, and the mappings that Dagster does not infer.

    Attributes:
        by_columns: the definition of the tables with these partition columns.
        models: for what is made by method from the models of an iteration: the model of the method's
            recipe, if it takes that iteration's, else nothing.
    """

    by_columns: Mapping[tuple[str, ...], PartitionsDefinition[str]]
    models: Mapping[int, PartitionMapping]

    def of(self, columns: tuple[str, ...]) -> PartitionsDefinition[str] | None:
        """The definition of the tables with these partition columns; None for unpartitioned ones."""
        return self.by_columns[columns] if columns else None


def every_partition(_: Partitions) -> PartitionMapping:
    """For what is made from all partitions of a table that is cut by other keys."""
    return AllPartitionMapping()


def partitions_of(
    domains: Iterable[str], recipes: Iterable[str], methods: Mapping[str, tuple[str, int] | None]
) -> Partitions:
    """The partitions of one experiment, by the names of its domains, recipes and methods.

    With a method stand recipe and iteration of the model that writes for it; None where no trained one does.

    Raises:
        DeeperError: a method's recipe is none of the recipes, or its iteration neither 1 nor 2.
    """
    recipes = list(recipes)
    for method, model in methods.items():
        if model is not None and (model[0] not in recipes or model[1] not in ITERATIONS):
            raise DeeperError(
                f"method {method!r} takes model {model[1]} of recipe {model[0]!r}; there are models 1 and 2"
                f" of {', '.join(recipes) or 'no recipe'}"
            )
    by_domain = StaticPartitionsDefinition(list(domains))
    by_recipe = StaticPartitionsDefinition(recipes)
    by_method = StaticPartitionsDefinition(list(methods))
    trained = {method: model for method, model in methods.items() if model is not None}
    return Partitions(
        {
            ("domain",): by_domain,
            ("recipe",): by_recipe,
            ("method",): by_method,
            ("domain", "recipe"): MultiPartitionsDefinition({"domain": by_domain, "recipe": by_recipe}),
            ("domain", "method"): MultiPartitionsDefinition({"domain": by_domain, "method": by_method}),
        },
        {
            iteration: StaticPartitionMapping(
                {
                    recipe: [method for method, model in trained.items() if model == (recipe, iteration)]
                    for recipe, trained_in in dict.fromkeys(trained.values())
                    if trained_in == iteration
                }
            )
            for iteration in ITERATIONS
        },
    )


def columns_of(partition_key: str | MultiPartitionKey | None, dimension: str = "domain") -> dict[str, str]:
    """A partition key as values of the tables' partition columns; an unpartitioned asset has none.

    `dimension` is what a key of a single dimension is a key of.
    """
    if partition_key is None:
        return {}
    if isinstance(partition_key, MultiPartitionKey):
        return dict(partition_key.keys_by_dimension)
    return {dimension: partition_key}
