"""Several trainings of a recipe: their partitions, what their seed decides, and what they leave alone."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest

from deeper_assets.estimating import Rates, estimate
from deeper_assets.graph import Graph
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.partitions import Partitions, partitions_of
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.values import Values
from deeper_assets_tests.training_graph import Made, RecordingGraph

ONE = Settings(train_recipes=["balanced", "paper"])
THREE = ONE.model_copy(update={"training_seeds": 3})


def experiment(settings: Settings) -> Experiment:
    return Experiment(Path("nowhere"), settings)


def test_the_trainings_and_methods_in_force() -> None:
    here = experiment(THREE)
    assert here.trainings == [
        *("balanced", "balanced_seed_2", "balanced_seed_3"),
        *("paper", "paper_seed_2", "paper_seed_3"),
    ]
    trained = {
        *("deeper", "deeper_seed_2", "deeper_seed_3"),
        *("deeper_iteration_1", "deeper_iteration_1_seed_2", "deeper_iteration_1_seed_3"),
        *("deeper_paper", "deeper_paper_seed_2", "deeper_paper_seed_3"),
    }
    assert set(here.methods) == {*trained, "frozen_policy", *PROMPT_METHODS}
    offered = Graph.of(here).offered
    assert [partition["recipe"] for partition in offered["model_1"]] == here.trainings
    assert {partition["method"] for partition in offered["policies"]} == set(here.methods)
    assert "deeper_seed_2" not in experiment(ONE).methods


def test_a_training_differs_from_the_first_in_its_seed_alone() -> None:
    values = Values(experiment(THREE))
    first, third = {"domain": "book", "recipe": "paper"}, {"domain": "book", "recipe": "paper_seed_3"}
    seed = THREE.seed
    assert (values.seed({}), values.seed(first), values.seed(third)) == (seed, seed, seed + 2)
    assert values.recipe(third) == values.recipe(first)
    assert values.candidate_draw(third) == replace(values.candidate_draw(first), seed=seed + 2)
    assert values.validation(third) == replace(values.validation(first), seed=seed + 2)
    # Iteration 1 is sampled for all of them together.
    assert values.candidate_draw({"domain": "book"}) == values.candidate_draw(first)
    writing = values.writing({"domain": "book", "method": "deeper_paper"})
    assert writing is not None
    assert values.writing({"domain": "book", "method": "deeper_paper_seed_3"}) == replace(
        writing, seed=seed + 2
    )


def test_more_trainings_change_nothing_of_those_there_are() -> None:
    """What decides every partition, and the version that the UI compares, but for the tables over all."""
    one, three = Graph.of(experiment(ONE)), Graph.of(experiment(THREE))
    over_all = {"mae_table", "comparison_table"}
    for table in one.tables:
        if table not in over_all:
            assert one.version(table) == three.version(table), table
        for partition in one.offered[table]:
            assert partition in three.offered[table]
            if table not in {*over_all, "raw_ratings", "chat_usage"}:
                assert one.settings(table, partition) == three.settings(table, partition), table


class MoreTrainings(RecordingGraph):
    """The recorded graph, with a second training of one recipe."""

    @cached_property
    def partitions(self) -> Partitions:
        return partitions_of(
            ["book", "movies tv", "grocery", "films"],
            ["book", "movies tv", "grocery"],
            ["paper", "inc_ft", "balanced", "balanced_seed_2"],
            {
                "deeper": ("balanced", 2),
                "deeper_iteration_1": ("balanced", 1),
                "deeper_seed_2": ("balanced_seed_2", 2),
                "deeper_iteration_1_seed_2": ("balanced_seed_2", 1),
                "deeper_paper": ("paper", 2),
                "frozen_policy": None,
                "full_regen": None,
            },
            main_method="deeper",
        )


@pytest.fixture
def planners(training: Made) -> tuple[Planner, Planner]:
    """Over what is recorded: as it was made, and with a second training."""
    graphs = (training.graph, MoreTrainings(training.graph.values, training.graph.tools))
    before, after = (Planner(graph, graph.definitions(training.warehouse)) for graph in graphs)
    return before, after


def test_a_second_training_is_planned_and_the_first_is_left_alone(planners: tuple[Planner, Planner]) -> None:
    before, after = (
        {
            (table, str(key))
            for table in planner.order
            for key in planner.keys(table)
            if planner.stale([table], key, planner.stored())
        }
        for planner in planners
    )
    assert before < after
    assert all("seed_2" in key for _, key in after - before)
    assert {table for table, key in after - before if key == "balanced_seed_2"} == {
        *("preference_pairs_1", "preference_groups_1", "model_1"),
        *("preference_pairs_2", "preference_groups_2", "model_2"),
    }
    [pairs] = {
        tuple(after_keys) for after_keys in [planners[1].parent_keys("policies", "deeper_seed_2", "model_2")]
    }
    assert pairs == ("balanced_seed_2",)


def test_the_estimate_counts_every_training(tmp_path: Path) -> None:
    small = {"train_recipes": ["paper"], "training_domains": ["book"], "evaluate": ["book"], "train_users": 2}
    given = {**small, "eval_users": 2, "candidates": 2, "synthetic_users": 10, "training_seeds": 2}
    took = estimate(Experiment(tmp_path, Settings(**given)), Rates())
    assert [(step.table, step.by) for step in took.training] == [
        *(("model_1", "paper"), ("model_1", "paper_seed_2")),
        *(("model_2", "paper"), ("model_2", "paper_seed_2")),
    ]
    of_first, of_second = (
        {step.table: step.count for step in took.sampling if step.by.removeprefix("deeper_") == name}
        for name in ("paper", "paper_seed_2")
    )
    assert of_first == of_second
    assert set(of_first) == {"contexts_2", "candidates_2", "persona_rounds"}
