"""The plan and the runs agree on what is made from what, whatever maps the partitions."""

import time
from dataclasses import replace

import pytest
from dagster import AssetKey

from deeper_assets.partitions import columns_of
from deeper_assets.planning import Planner, Stored
from deeper_assets.store.ledger import Partition, Version, canonical_json
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.training_graph import Made


@pytest.fixture
def planner(training: Made) -> Planner:
    """Over the recorded graph; its experiment's home is the recorded one."""
    return Planner(training.graph, training.graph.definitions(training.warehouse))


def stale(planner: Planner, stored: Stored) -> set[tuple[str, str | None]]:
    """Every partition of which a run would make something again, each asked for by itself."""
    return {
        (table, key)
        for table in planner.order
        for key in planner.keys(table)
        if planner.stale([table], key, stored)
    }


def place(table: str, partition: Partition) -> tuple[str, str]:
    return table, canonical_json(partition)


def test_nothing_is_stale_but_what_was_never_made(planner: Planner) -> None:
    found = stale(planner, planner.stored())
    assert {table for table, _ in found} == {
        *("initial_personas", "contexts_1", "context_predictions_1", "contexts_2", "context_predictions_2"),
        *("persona_rounds", "round_predictions", "round_errors"),
        *("control_predictions", "control_errors"),
    }
    assert all("movies tv" in str(key) for _, key in found)


def test_another_content_makes_stale_exactly_what_has_read_it(planner: Planner, training: Made) -> None:
    stored = planner.stored()
    never_made = stale(planner, stored)
    readers: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for version in training.warehouse.current():
        for one in version.inputs:
            readers.setdefault(one.place, set()).add(
                (version.table, "|".join(version.partition[name] for name in sorted(version.partition)))
            )
    assert len(readers) > 20
    for name, version in stored.items():
        changed = {**stored, name: replace(version, content="another")}
        found = {(table, key or "") for table, key in stale(planner, changed) - never_made}
        assert found == readers.get(name, set()), name


def test_a_domain_that_comes_later_makes_stale_what_is_over_all_domains(planner: Planner) -> None:
    stored = dict(planner.stored())
    before = stale(planner, stored)
    partition = {"domain": "movies tv"}
    book: Version = stored[place("contexts_1", {"domain": "book"})]
    stored[place("contexts_1", partition)] = replace(book, partition=partition)
    over_all = {"preference_pairs_1", "preference_groups_1"}
    recipes = ("paper", "inc_ft", "balanced")
    assert stale(planner, stored) - before == {(table, recipe) for table in over_all for recipe in recipes}


def test_planning_is_quick(planner: Planner) -> None:
    """Seconds of processor time; three domains, five methods and three recipes: some 60 partitions."""
    stored = planner.stored()
    started = time.thread_time()
    stale(planner, stored)
    assert time.thread_time() - started < 2


def test_keys_of_a_single_dimension_are_read_as_the_tables_own(planner: Planner) -> None:
    for table in planner.order:
        definition = planner.assets.get(AssetKey(table)).partitions_def
        for key in definition.get_partition_keys() if definition else [None]:
            assert set(columns_of(key, *TABLES[table].partition[:1])) == set(TABLES[table].partition)
