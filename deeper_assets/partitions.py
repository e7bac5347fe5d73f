"""How the graph is cut: by domain, recipe or method, and by domain and recipe, method, control or inducer.

Built from the settings when the code location loads, so the partitions that are offered are those in force.
Multi-partitions share the very same dimensions with other tables: Dagster maps between them only then.
"""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from dagster_shared.utils.warnings import BetaWarning

from deeper_assets.method.controls import CONTROLS, SHUFFLED

ITERATIONS = (1, 2)


@dataclass(frozen=True)
class Partitions:
    """The partition definitions of one code location, and the mappings that Dagster does not infer.

    Attributes:
        by_columns: the definition of the tables with these partition columns.
        training: the same for tables that serve training, whose domains are those that train.
        inducing: the same for tables of several personas a person, for which no ratings are needed.
        writing: of these, for tables that serve the training of policies of sets.
        models: for what is made by method from the models of an iteration: the model of the method's
            recipe, if it takes that iteration's, else nothing.
        set_models: for what is made by inducer from the policies of sets: that of its recipe, or nothing.
        rated: for what is made by domain from ratings, where there are any, and otherwise from a log.
        shuffled: for what is made by control from the personas of the main method: those of the domain, for
            the control that gives them to other users; nothing for the others.
    """

    by_columns: Mapping[tuple[str, ...], PartitionsDefinition[str]]
    training: Mapping[tuple[str, ...], PartitionsDefinition[str]]
    inducing: Mapping[tuple[str, ...], PartitionsDefinition[str]]
    writing: Mapping[tuple[str, ...], PartitionsDefinition[str]]
    models: Mapping[int, PartitionMapping]
    set_models: PartitionMapping
    rated: PartitionMapping
    shuffled: PartitionMapping

    def of(
        self, columns: tuple[str, ...], training: bool, induces: bool = False
    ) -> PartitionsDefinition[str] | None:
        """The definition of the tables with these partition columns; None for unpartitioned ones."""
        if not columns:
            return None
        of_refinement, of_sets = (self.by_columns, self.training), (self.inducing, self.writing)
        return (of_sets if induces else of_refinement)[training][columns]


@dataclass(frozen=True)
class Inducing:
    """What cuts the branch of several personas a person, by the names of what is in force.

    Attributes:
        inducers: how memories become personas.
        set_recipes: of the policies that write sets of personas; they are among the inducers.
        set_domains: whose training users train these policies.
    """

    inducers: Sequence[str] = ()
    set_recipes: Sequence[str] = ()
    set_domains: Sequence[str] = ()


def every_partition(_: Partitions) -> PartitionMapping:
    """For what is made from all partitions of a table that is cut by other keys."""
    return AllPartitionMapping()


def of_ratings(partitions: Partitions) -> PartitionMapping:
    """For what is made from ratings in domains that have them."""
    return partitions.rated


def partitions_of(
    domains: Iterable[str],
    training_domains: Iterable[str],
    trainings: Iterable[str],
    methods: Mapping[str, tuple[str, int] | None],
    main_method: str,
    inducing: Inducing = Inducing(),
    logs: Collection[str] = (),
) -> Partitions:
    """The partitions of one experiment, by the names of what is in force.

    Training domains are among the domains, and trainings are the keys of the dimension `recipe`. With a
    method stand training and iteration of the model that writes for it; None where no trained one does.
    `main_method` is one of them. Of the domains, `logs` are those without ratings; none of these trains.
    """
    every = list(domains)
    rated = [domain for domain in every if domain not in logs]
    by_any = StaticPartitionsDefinition(every)
    by_domain = StaticPartitionsDefinition(rated)
    by_training = StaticPartitionsDefinition(list(training_domains))
    by_recipe = StaticPartitionsDefinition(list(trainings))
    by_method = StaticPartitionsDefinition(list(methods))
    by_control = StaticPartitionsDefinition(list(CONTROLS))
    by_inducer = StaticPartitionsDefinition(list(inducing.inducers))
    trained = {method: model for method, model in methods.items() if model is not None}
    return Partitions(
        {
            ("domain",): by_domain,
            ("method",): by_method,
            ("domain", "method"): MultiPartitionsDefinition({"domain": by_domain, "method": by_method}),
            ("domain", "control"): MultiPartitionsDefinition({"domain": by_domain, "control": by_control}),
        },
        {
            ("domain",): by_training,
            ("recipe",): by_recipe,
            ("domain", "recipe"): MultiPartitionsDefinition({"domain": by_training, "recipe": by_recipe}),
        },
        {
            ("domain",): by_any,
            ("inducer",): by_inducer,
            ("domain", "inducer"): MultiPartitionsDefinition({"domain": by_any, "inducer": by_inducer}),
        },
        {
            ("domain",): StaticPartitionsDefinition(list(inducing.set_domains)),
            ("set_recipe",): StaticPartitionsDefinition(list(inducing.set_recipes)),
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
        StaticPartitionMapping({recipe: recipe for recipe in inducing.set_recipes}),
        StaticPartitionMapping({domain: domain for domain in rated}),
        _of_domain("method", "control", {main_method: SHUFFLED}),
    )


def _of_domain(above: str, below: str, names: Mapping[str, str]) -> PartitionMapping:
    """What is made by domain and `below` is made of what there is by domain and `above`, of these names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)  # said of this class; the tests hold what it does
        return MultiPartitionMapping(
            {
                "domain": DimensionPartitionMapping("domain", IdentityPartitionMapping()),
                above: DimensionPartitionMapping(below, StaticPartitionMapping(names)),
            }
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
