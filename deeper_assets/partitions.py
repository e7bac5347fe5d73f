"""How the graph is cut: by domain, by recipe, by method, and by domain together with one of the others.

Built from the settings when the code location loads, because a user's own domains are partitions too. Every
asset shares the very same dimensions: Dagster maps between a dimension and its multi-partitions only then.
Where the key of one dimension decides that of another (a recipe its update, a method its recipe), an asset
names one of the mappings here for its input.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagster import (
    AllPartitionMapping,
    DimensionPartitionMapping,
    IdentityPartitionMapping,
    MultiPartitionKey,
    MultiPartitionMapping,
    MultiPartitionsDefinition,
    PartitionMapping,
    PartitionsDefinition,
    StaticPartitionMapping,
    StaticPartitionsDefinition,
)
from dagster._core.definitions.partitions.mapping.multi.base import (
    BaseMultiPartitionMapping,
    DimensionDependency,
)
from dagster_shared.utils.warnings import disable_dagster_warnings

from deeper_assets.method.exceptions import DeeperError

ITERATIONS = (1, 2)


@dataclass(frozen=True)
class Partitions:
    """The partition definitions of one code location, and the mappings that Dagster does not infer.

    Attributes:
        domains, updates, recipes, methods: the four dimensions.
        domain_updates, domain_recipes, domain_methods: a domain together with one of the others.
        updates_of_recipes: for what is made by domain and recipe from what is there by domain and update:
            the recipe's update in the same domain.
        updates_over_domains: for what is made by recipe from what is there by domain and update: the
            recipe's update in every domain.
        models: for what is made by method from the models of an iteration: the model of the method's
            recipe, if it takes that iteration's, else nothing.
    """

    domains: StaticPartitionsDefinition
    updates: StaticPartitionsDefinition
    recipes: StaticPartitionsDefinition
    methods: StaticPartitionsDefinition
    domain_updates: MultiPartitionsDefinition
    domain_recipes: MultiPartitionsDefinition
    domain_methods: MultiPartitionsDefinition
    updates_of_recipes: PartitionMapping
    updates_over_domains: PartitionMapping
    models: Mapping[int, PartitionMapping]


class _UpdatesOverDomains(BaseMultiPartitionMapping, AllPartitionMapping):
    """From domain × update to recipe: the recipe's update, in every domain.

    Dagster has no mapping from one dimension of multi-partitions to other keys of a single dimension, and its
    UI and daemon know no mapping but its own: with any other they take the keys for the same, and refuse the
    definitions. So they are given this one as AllPartitionMapping. They then think that a recipe needs every
    update, which makes a backfill wait for more than it has to. Runs and `deeper run` go by what is here.
    """

    def __new__(cls, recipes: Mapping[str, Sequence[str]]) -> "_UpdatesOverDomains":
        mapping = super().__new__(cls)
        mapping._by_update = StaticPartitionMapping(recipes)
        return mapping

    _by_update: StaticPartitionMapping

    def get_dimension_dependencies(
        self,
        upstream_partitions_def: PartitionsDefinition,  # noqa: ARG002
        downstream_partitions_def: PartitionsDefinition,  # noqa: ARG002
    ) -> Sequence[DimensionDependency]:
        return [DimensionDependency(self._by_update, upstream_dimension_name="template")]


_UpdatesOverDomains.__name__ = AllPartitionMapping.__name__  # by which Dagster writes and reads it


def partitions_of(
    domains: Iterable[str], recipes: Mapping[str, str], methods: Mapping[str, tuple[str, int] | None]
) -> Partitions:
    """The partitions of one experiment.

    Args:
        domains: names of the domains.
        recipes: the update of each recipe.
        methods: recipe and iteration of the model that writes for each method; None where no trained one
            does.

    Raises:
        DeeperError: a method's recipe is none of the recipes, or its iteration neither 1 nor 2.
    """
    for method, model in methods.items():
        if model is not None and (model[0] not in recipes or model[1] not in ITERATIONS):
            raise DeeperError(
                f"method {method!r} takes model {model[1]} of recipe {model[0]!r}; there are models 1 and 2"
                f" of {', '.join(recipes) or 'no recipe'}"
            )
    by_domain = StaticPartitionsDefinition(list(domains))
    by_update = StaticPartitionsDefinition(list(dict.fromkeys(recipes.values())))
    by_recipe = StaticPartitionsDefinition(list(recipes))
    by_method = StaticPartitionsDefinition(list(methods))
    recipes_of = _grouped(recipes.items())
    with disable_dagster_warnings():  # mappings between multi-partitions are said to be beta
        updates_of_recipes = MultiPartitionMapping(
            {
                "domain": DimensionPartitionMapping("domain", IdentityPartitionMapping()),
                "template": DimensionPartitionMapping("recipe", StaticPartitionMapping(recipes_of)),
            }
        )
    return Partitions(
        by_domain,
        by_update,
        by_recipe,
        by_method,
        MultiPartitionsDefinition({"domain": by_domain, "template": by_update}),
        MultiPartitionsDefinition({"domain": by_domain, "recipe": by_recipe}),
        MultiPartitionsDefinition({"domain": by_domain, "method": by_method}),
        updates_of_recipes,
        _UpdatesOverDomains(recipes_of),
        {
            iteration: StaticPartitionMapping(
                _grouped(
                    (method, model[0])
                    for method, model in methods.items()
                    if model is not None and model[1] == iteration
                )
            )
            for iteration in ITERATIONS
        },
    )


def columns_of(partition_key: str | MultiPartitionKey | None, dimension: str = "domain") -> dict[str, str]:
    """A partition key as values of the tables' partition columns; an unpartitioned asset has none.

    Args:
        partition_key: the key as Dagster hands it to an asset.
        dimension: what a key of a single dimension is a key of.
    """
    if partition_key is None:
        return {}
    if isinstance(partition_key, MultiPartitionKey):
        return dict(partition_key.keys_by_dimension)
    return {dimension: partition_key}


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The first of each pair, by the second."""
    groups: dict[str, list[str]] = {}
    for one, by in pairs:
        groups.setdefault(by, []).append(one)
    return groups
