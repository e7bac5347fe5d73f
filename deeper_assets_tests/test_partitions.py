"""What each partition is made from: in runs, in the code server's graph, and by the mappings alone."""

import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from dagster import (
    AllPartitionMapping,
    AssetKey,
    DagsterInstance,
    MultiPartitionKey,
    MultiPartitionMapping,
    StaticPartitionMapping,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.partitions import columns_of, partitions_of
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests import training_graph
from deeper_assets_tests.conftest import REPOSITORY
from deeper_assets_tests.training_graph import PARTITIONS, Made, Seen, make


def key(**keys: str) -> MultiPartitionKey:
    return MultiPartitionKey(keys)


def partitions_in(frames: Mapping[str, pd.DataFrame]) -> dict[str, list[tuple[str, ...]]]:
    """The partitions that rows come from, without tables that gave none."""
    found = {}
    for name, frame in frames.items():
        columns = training_graph.TABLES[name].partition
        found[name] = sorted(set(frame[list(columns)].itertuples(index=False, name=None)))
    return {name: partitions for name, partitions in found.items() if partitions}


@pytest.mark.parametrize(
    ("table", "partition", "expected"),
    [
        ("contexts_1", key(domain="book", template="inc_update"), {"initial_personas": [("book",)]}),
        (
            "preference_pairs_1",
            "balanced",
            {"contexts_1": [("book", "refinement"), ("grocery", "refinement")]},
        ),
        ("preference_pairs_1", "paper", {"contexts_1": [("book", "refinement"), ("grocery", "refinement")]}),
        ("preference_pairs_1", "inc_ft", {"contexts_1": [("book", "inc_update"), ("grocery", "inc_update")]}),
        ("model_1", "paper", {"preference_pairs_1": [("paper",)]}),
        (
            "contexts_2",
            key(domain="grocery", recipe="balanced"),
            {"contexts_1": [("grocery", "refinement")], "model_1": [("balanced",)]},
        ),
        (
            "contexts_2",
            key(domain="book", recipe="inc_ft"),
            {"contexts_1": [("book", "inc_update")], "model_1": [("inc_ft",)]},
        ),
        (
            "preference_pairs_2",
            "paper",
            {"contexts_2": [("book", "paper"), ("grocery", "paper")], "preference_pairs_1": [("paper",)]},
        ),
        ("model_2", "inc_ft", {"model_1": [("inc_ft",)], "preference_pairs_2": [("inc_ft",)]}),
        ("policies", "deeper", {"model_2": [("balanced",)]}),
        ("policies", "deeper_iteration_1", {"model_1": [("balanced",)]}),
        ("policies", "deeper_paper", {"model_2": [("paper",)]}),
        ("policies", "frozen_policy", {}),
        ("policies", "full_regen", {}),
        (
            "persona_rounds",
            key(domain="book", method="deeper_paper"),
            {"initial_personas": [("book",)], "policies": [("deeper_paper",)]},
        ),
    ],
)
def test_a_run_is_given_exactly_the_mapped_partitions(training: Made, table, partition, expected) -> None:
    found = partitions_in(training.seen[table, partition])
    assert found.pop("base_policy", [()]) == [()]
    assert found == expected


def test_an_input_without_any_mapped_partition_is_an_empty_frame(training: Made) -> None:
    given = training.seen["policies", "full_regen"]
    assert [len(given[name]) for name in ("base_policy", "model_1", "model_2")] == [1, 0, 0]
    assert list(given["model_1"]) == ["recipe", "file", "content", "size", "sha256"]


def test_several_mapped_partitions_may_be_missing_and_a_single_one_may_not(tmp_path: Path) -> None:
    warehouse, seen = Warehouse(tmp_path / "warehouse.duckdb"), Seen()
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        make(warehouse, instance, seen, "preference_pairs_1", "paper")
        assert seen["preference_pairs_1", "paper"]["contexts_1"].empty
        make(warehouse, instance, seen, "base_policy")
        with pytest.raises(DeeperError, match=r"^recipe 'paper' of table 'model_2' has never been material"):
            make(warehouse, instance, seen, "policies", "deeper_paper")


def test_what_is_made_from_a_partition_is_the_other_way_round() -> None:
    graph = training_graph.defs.resolve_asset_graph()

    def children(table: str, partition: str) -> set[tuple[str, str | None]]:
        found = graph.get_children_partitions(AssetKey(table), partition)
        return {(one.asset_key.to_user_string(), one.partition_key) for one in found}

    assert children("contexts_1", key(domain="book", template="refinement")) == {
        ("preference_pairs_1", "paper"),
        ("preference_pairs_1", "balanced"),
        ("contexts_2", "book|paper"),
        ("contexts_2", "book|balanced"),
    }
    assert children("model_2", "balanced") == {("policies", "deeper")}
    assert children("model_2", "inc_ft") == set()


def test_the_code_server_hands_every_mapping_on(tmp_path: Path) -> None:
    """As the UI and the daemon see the graph: built-in mappings, none of which was replaced by a guess."""
    target = PythonFileTarget(training_graph.__file__, None, str(REPOSITORY), None)
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
        assert mapping("contexts_2", "contexts_1") == PARTITIONS.updates_of_recipes
        assert mapping("policies", "model_2") == PARTITIONS.models[2]
        assert isinstance(mapping("contexts_2", "contexts_1"), MultiPartitionMapping)
        assert isinstance(mapping("policies", "model_2"), StaticPartitionMapping)
        # A backfill is refused where a partition needs one that does not exist.
        for table in ("preference_pairs_1", "contexts_2", "policies", "persona_rounds"):
            for partition in graph.get(AssetKey(table)).partitions_def.get_partition_keys():
                needed = graph.get_parents_partitions(AssetKey(table), partition)
                assert not needed.required_but_nonexistent_parents_partitions


def test_the_graph_is_valid_as_dagster_sees_it(tmp_path: Path) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    done = subprocess.run(
        [str(dagster), "definitions", "validate", "-f", training_graph.__file__],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_building_the_graph_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partitions_of(["book"], {"paper": "refinement"}, {"deeper_paper": ("paper", 2)})
        training_graph.graph({})


def test_dimensions_are_shared_and_only_updates_in_use_are_keys() -> None:
    p = partitions_of(["book"], {"paper": "refinement", "decayed": "refinement"}, {"full_regen": None})
    assert p.updates.get_partition_keys() == ["refinement"]
    for dimension, name in (("template", "updates"), ("recipe", "recipes"), ("method", "methods")):
        multi = getattr(p, f"domain_{name}")
        assert multi.get_partitions_def_for_dimension("domain") is p.domains
        assert multi.get_partitions_def_for_dimension(dimension) is getattr(p, name)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (
            ("balance", 2),
            "method 'deeper' takes model 2 of recipe 'balance'; there are models 1 and 2 of paper",
        ),
        (
            ("paper", 3),
            "method 'deeper' takes model 3 of recipe 'paper'; there are models 1 and 2 of paper",
        ),
    ],
)
def test_a_method_of_a_model_that_is_never_trained(model: tuple[str, int], fault: str) -> None:
    with pytest.raises(DeeperError, match=fault):
        partitions_of(["book"], {"paper": "refinement"}, {"deeper": model})


def test_keys_read_as_columns() -> None:
    assert columns_of(None) == {}
    assert columns_of("book") == {"domain": "book"}
    assert columns_of("balanced", "recipe") == {"recipe": "balanced"}
    assert columns_of(key(domain="book", template="refinement")) == {
        "domain": "book",
        "template": "refinement",
    }
