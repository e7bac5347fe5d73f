"""What each partition is made from: in runs, in the code server's graph, and by the mappings alone."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import (
    AllPartitionMapping,
    AssetKey,
    DagsterInstance,
    IdentityPartitionMapping,
    MultiPartitionKey,
    MultiPartitionMapping,
    MultiToSingleDimensionPartitionMapping,
    StaticPartitionMapping,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

from deeper_assets.definitions import build_definitions
from deeper_assets.graph import Graph
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.method.recipes import RECIPES
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.partitions import columns_of, partitions_of
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.induction_tables import INDUCTION
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.conftest import REPOSITORY
from deeper_assets_tests.training_graph import Made, make, recording_graph


def key(**keys: str) -> MultiPartitionKey:
    return MultiPartitionKey(keys)


def partitions_in(frames: Mapping[str, pd.DataFrame]) -> dict[str, list[tuple[str, ...]]]:
    """The partitions that rows come from, without tables that gave none."""
    found = {}
    for name, frame in frames.items():
        columns = TABLES[name].partition
        found[name] = sorted(set(frame[list(columns)].itertuples(index=False, name=None)))
    return {name: partitions for name, partitions in found.items() if partitions}


BOTH = [("book",), ("grocery",)]


@pytest.mark.parametrize(
    ("table", "partition", "expected"),
    [
        ("contexts_1", "book", {"initial_personas": [("book",)]}),
        (
            "persona_rounds",
            "films|deeper",
            {"initial_personas": [("films",)], "policies": [("deeper",)]},
        ),
        ("preference_pairs_1", "balanced", {"contexts_1": BOTH}),
        ("preference_pairs_1", "inc_ft", {"contexts_1": BOTH}),
        ("model_1", "paper", {"preference_pairs_1": [("paper",)], "preference_groups_1": [("paper",)]}),
        (
            "contexts_2",
            "grocery|balanced",
            {
                "contexts_1": [("grocery",)],
                "context_predictions_1": [("grocery",)],
                "model_1": [("balanced",)],
            },
        ),
        (
            "preference_pairs_2",
            "paper",
            {
                "contexts_2": [("book", "paper"), ("grocery", "paper")],
                "preference_pairs_1": [("paper",)],
                "preference_groups_1": [("paper",)],
            },
        ),
        (
            "model_2",
            "inc_ft",
            {
                "model_1": [("inc_ft",)],
                "preference_pairs_2": [("inc_ft",)],
                "preference_groups_2": [("inc_ft",)],
            },
        ),
        ("policies", "deeper", {"model_2": [("balanced",)]}),
        ("policies", "deeper_iteration_1", {"model_1": [("balanced",)]}),
        ("policies", "deeper_paper", {"model_2": [("paper",)]}),
        ("policies", "frozen_policy", {}),
        ("policies", "full_regen", {}),
        (
            "persona_rounds",
            "book|deeper_paper",
            {"initial_personas": [("book",)], "policies": [("deeper_paper",)]},
        ),
        ("control_predictions", "control_shuffled|book", {"persona_rounds": [("book", "deeper")]}),
        ("control_predictions", "control_habit|book", {}),
    ],
)
def test_a_run_is_given_exactly_the_mapped_partitions(training: Made, table, partition, expected) -> None:
    given = partitions_in(training.seen[table, partition])
    assert given.pop("base_policy", [()]) == [()]
    assert given == expected


def test_an_input_without_any_mapped_partition_is_an_empty_frame(training: Made) -> None:
    given = training.seen["policies", "full_regen"]
    assert [len(given[name]) for name in ("base_policy", "model_1", "model_2")] == [1, 0, 0]
    assert list(given["model_1"]) == ["recipe", "file", "content", "size", "sha256", "ended"]


def test_several_mapped_partitions_may_be_missing_and_a_single_one_may_not(tmp_path: Path) -> None:
    made = Made(Warehouse(tmp_path / "warehouse.duckdb"), recording_graph(tmp_path))
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        make(made, instance, "preference_pairs_1", "paper")
        assert made.seen["preference_pairs_1", "paper"]["contexts_1"].empty
        make(made, instance, "base_policy")
        with pytest.raises(DeeperError, match=r"^recipe 'paper' of table 'model_2' has never been material"):
            make(made, instance, "policies", "deeper_paper")


def test_what_is_made_from_a_partition_is_the_other_way_round() -> None:
    graph = build_definitions(Experiment(Path("nowhere"), Settings())).resolve_asset_graph()

    def children(table: str, partition: str) -> set[tuple[str, str | None]]:
        mapped = graph.get_children_partitions(AssetKey(table), partition)
        return {(one.asset_key.to_user_string(), one.partition_key) for one in mapped}

    below = children("context_predictions_1", "book")
    assert {key for table, key in below if table == "rewards_1"} == {"book"}
    assert {key for table, key in below if table == "contexts_2"} == {"book|balanced", "book|paper"}
    above_pairs = children("rewards_1", "book")
    assert {key for table, key in above_pairs if table == "preference_pairs_1"} == {"balanced", "paper"}
    assert children("model_2", "balanced") == {("policies", "deeper")}
    assert [table for table, _ in children("model_1", "paper") if table == "policies"] == []
    assert ("control_predictions", "control_shuffled|book") in children("persona_rounds", "book|deeper")
    others = children("persona_rounds", "book|deeper_paper")
    assert "control_predictions" not in {table for table, _ in others}
    # Windows of every domain are evaluated, and those of domains that train are sampled for too.
    tables = {table for table, _ in children("rating_windows", "book")}
    assert tables - {table for table, _ in children("rating_windows", "grocery")} == {"training_windows"}


def test_the_code_server_hands_every_mapping_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the UI and the daemon see the graph: built-in mappings, none of which was replaced by a guess."""
    monkeypatch.setenv("DEEPER_HOME", str(tmp_path))
    target = ModuleTarget("deeper_assets.definitions", None, str(REPOSITORY), None)
    with (
        DagsterInstance.local_temp(str(tmp_path)) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        request = workspace.create_request_context()
        assert [entry.load_error for entry in request.get_code_location_entries().values()] == [None]
        graph = request.asset_graph
        graph.validate_partitions()

        def mapping(table: str, parent: str) -> object:
            return graph.get_partition_mapping(AssetKey(table), AssetKey(parent))

        assert type(mapping("preference_pairs_1", "contexts_1")) is AllPartitionMapping
        assert type(mapping("contexts_2", "contexts_1")) is MultiToSingleDimensionPartitionMapping
        assert type(mapping("training_windows", "rating_windows")) is IdentityPartitionMapping
        models = Graph.of(Experiment(tmp_path, Settings())).partitions.models
        assert mapping("policies", "model_2") == models[2]
        assert isinstance(models[2], StaticPartitionMapping)
        # A backfill is refused where a partition needs one that does not exist.
        tables = ("training_windows", "contexts_1", "preference_pairs_1", "contexts_2", "policies")
        shuffled = Graph.of(Experiment(tmp_path, Settings())).partitions.shuffled
        assert mapping("control_predictions", "persona_rounds") == shuffled
        assert isinstance(shuffled, MultiPartitionMapping)
        for table in (*tables, "persona_rounds", "control_predictions"):
            for partition in graph.get(AssetKey(table)).partitions_def.get_partition_keys():
                needed = graph.get_parents_partitions(AssetKey(table), partition)
                assert not needed.required_but_nonexistent_parents_partitions


def test_building_the_graph_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recording_graph().assets()


def test_dimensions_are_shared() -> None:
    p = partitions_of(["book", "grocery"], ["book"], ["paper", "decayed"], {"full_regen": None}, "full_regen")
    for name, training in (("recipe", True), ("method", False), ("control", False)):
        multi = p.of(("domain", name), training)
        assert multi.get_partitions_def_for_dimension("domain") is p.of(("domain",), training)
        if name != "control":  # no table is cut by control alone
            assert multi.get_partitions_def_for_dimension(name) is p.of((name,), training)
    assert p.of(("domain",), training=True).get_partition_keys() == ["book"]


def test_logs_have_the_partitions_for_which_no_ratings_are_needed() -> None:
    methods = {"full_regen": None}
    p = partitions_of(["book", "shop"], ["book"], ["paper"], methods, "full_regen", logs=["shop"])
    keys = [
        p.of(("domain",), training=False, induces=induces).get_partition_keys() for induces in (False, True)
    ]
    assert keys == [["book"], ["book", "shop"]]
    multi = p.of(("domain", "inducer"), training=False, induces=True)
    assert multi.get_partitions_def_for_dimension("domain") is p.of(("domain",), training=False, induces=True)


def offered(**settings: Any) -> dict[str, list[str] | None]:
    """Every table with the keys that its page offers; None where it has no partitions."""
    graph = build_definitions(Experiment(Path("nowhere"), Settings(**settings))).resolve_asset_graph()
    cuts = {key.to_user_string(): graph.get(key).partitions_def for key in graph.get_all_asset_keys()}
    return {table: list(cut.get_partition_keys()) if cut else None for table, cut in cuts.items()}


INDUCED = {table.name for table in INDUCTION}
"""Tables of a branch that is not asked for here."""

PROMPTED = ["full_regen", "slide_regen", "inc_update", "hier_merge"]


def test_partitions_are_those_of_the_domains_recipes_and_methods_in_force() -> None:
    given = offered(evaluate=["grocery", "book"], training_domains=["recipe"], train_recipes=["inc_ft"])
    domains, methods = ["recipe", "book", "grocery"], ["deeper_inc_ft", "frozen_policy", *PROMPTED]
    assert set(given) == set(TABLES) - INDUCED
    for table in ("raw_ratings", "rating_windows", "initial_personas"):
        assert given[table] == domains
    for table in ("training_windows", "contexts_1", "rewards_1"):
        assert given[table] == ["recipe"]
    for table in ("preference_pairs_1", "model_1", "preference_groups_2", "model_2"):
        assert given[table] == ["inc_ft"]
    assert given["candidates_2"] == ["recipe|inc_ft"]
    assert given["policies"] == methods
    assert given["round_errors"] == [f"{domain}|{method}" for domain in domains for method in methods]


def test_where_nothing_is_trained_tables_that_serve_training_are_left_out() -> None:
    """Dagster cannot map between partitions of which there are none."""
    given = offered(evaluate=["book"], train_recipes=[])
    assert set(TABLES) - set(given) - INDUCED == {
        *("base_policy", "training_windows"),
        *(
            f"{table}_{number}"
            for number in (1, 2)
            for table in (
                *("contexts", "context_predictions", "candidates", "candidate_predictions", "rewards"),
                *("preference_pairs", "preference_groups", "model"),
            )
        ),
    }
    assert given["raw_ratings"] == ["book"]
    assert given["policies"] == PROMPTED
    assert given["round_errors"] == [f"book|{method}" for method in PROMPTED]
    jobs = build_definitions(Experiment(Path("nowhere"), Settings(train_recipes=[]))).jobs
    assert [job.name for job in jobs] == [
        *("personas", "methods", "evaluation", "controls", "ceilings", "tables", "materialize_stale")
    ]


def test_keys_read_as_columns() -> None:
    assert columns_of(None) == {}
    assert columns_of("book") == {"domain": "book"}
    assert columns_of("balanced", "recipe") == {"recipe": "balanced"}
    assert columns_of(key(domain="book", method="deeper")) == {
        "domain": "book",
        "method": "deeper",
    }


def test_every_recipe_has_its_methods(tmp_path: Path) -> None:
    graph = build_definitions(Experiment(tmp_path, Settings(train_recipes=list(RECIPES))))
    methods = graph.resolve_asset_graph().get(AssetKey("policies")).partitions_def.get_partition_keys()
    others = ("paper", "future_only", "decayed", "inc_ft")
    trained = {"deeper", "deeper_iteration_1"} | {f"deeper_{name}" for name in others}
    assert sorted(methods) == sorted(trained | {"frozen_policy"} | set(PROMPT_METHODS))


def test_sets_are_cut_by_domain_and_inducer() -> None:
    given = offered(
        evaluate=["book"], training_domains=["book"], branches=["induction"], set_recipes=["foreseeing"]
    )
    assert given["events"] == ["book"]
    inducers = [*INDUCERS, "untrained", "foreseeing"]
    assert given["persona_sets"] == given["planted_scores"] == [f"book|{name}" for name in inducers]
    assert given["set_policies"] == inducers
    assert given["set_models"] == ["foreseeing"]
    assert given["set_candidates"] == ["book"]
    assert given["induction_table"] is None
    without = offered(evaluate=["book"], training_domains=["book"], branches=["induction"])
    assert without["persona_sets"] == [f"book|{name}" for name in INDUCERS]
    assert not {"set_models", "set_candidates", "base_set_policy"} & without.keys()
    assert given["next_item_scores"] == given["planted_next_items"] == ["book"]
    assert given["induction_table"] is given["next_items_table"] is None
