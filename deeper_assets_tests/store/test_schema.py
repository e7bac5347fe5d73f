"""The declarations by themselves: keys, partitions, and what the two iterations share."""

import pandas as pd
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.schema import TABLES, Table
from deeper_assets_tests.store.samples import stamp
from deeper_assets_tests.training_graph import one_row

PARTITIONS = {
    "contexts": ("domain", "*"),
    "context_predictions": ("domain", "*"),
    "candidates": ("domain", "*"),
    "candidate_predictions": ("domain", "*"),
    "rewards": ("domain", "*"),
    "preference_pairs": ("recipe",),
    "preference_groups": ("recipe",),
    "model": ("recipe",),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_keys_and_partitions_are_columns_that_hold_something(table: Table) -> None:
    assert len(set(table.column_names)) == len(table.column_names)
    assert set(table.key) | set(table.partition) <= set(table.column_names)
    assert not [one.name for one in table.columns if one.name in table.partition and one.nullable]
    assert all(column.meaning for column in table.columns)


@pytest.mark.parametrize("name", PARTITIONS)
def test_both_iterations_have_the_same_tables_but_for_what_shares_them(name: str) -> None:
    first, second = TABLES[f"{name}_1"], TABLES[f"{name}_2"]
    assert first.partition == tuple(one for one in PARTITIONS[name] if one != "*")
    assert second.partition == tuple("recipe" if one == "*" else one for one in PARTITIONS[name])

    def others(table: Table) -> list[object]:
        return [column for column in table.columns if column.name not in ("template", "recipe")]

    assert others(first) == others(second)


@pytest.mark.parametrize(
    ("table", "partition", "changed", "fault"),
    [
        ("contexts_1", {"domain": "book"}, {"round": 0}, "'round' must satisfy"),
        (
            "candidates_1",
            {"domain": "book"},
            {"copies": 0},
            "'copies' must satisfy copies >= 1",
        ),
        ("candidates_2", {"domain": "book", "recipe": "r"}, {"unusable": "dull"}, "'unusable' must satisfy"),
        ("rewards_2", {"domain": "book", "recipe": "r"}, {"template": "u"}, "'template' is not declared"),
        ("preference_pairs_1", {"recipe": "r"}, {"margin": -0.1}, "'margin' must satisfy margin >= 0"),
        ("preference_groups_2", {"recipe": "r"}, {"origin": "here"}, "'origin' must satisfy origin IN"),
        (
            "preference_pairs_2",
            {"recipe": "r"},
            {"recipe": "s"},
            "'recipe' must be 'r' (1 rows do not, e.g. 's')",
        ),
        ("model_1", {"recipe": "r"}, {"content": "text"}, "'content' must be BLOB, not VARCHAR"),
        ("model_2", {"recipe": "r"}, {"size": 2}, "'size' must satisfy size = octet_length(content)"),
        ("policies", {"method": "deeper"}, {"iteration": 3}, "'iteration' must satisfy iteration IN (1, 2)"),
    ],
)
def test_rows_of_training_that_cannot_be(warehouse, table, partition, changed, fault) -> None:
    good = one_row(table, partition)
    assert warehouse.replace(table, partition, good, stamp()).row_count == 1
    with pytest.raises(DeeperError) as refused:
        warehouse.replace(table, partition, good.assign(**changed), stamp())
    assert f"table {table!r} refuses the data: column {fault}" in str(refused.value)


def test_own_and_replayed_pairs_of_one_context_stand_side_by_side(warehouse) -> None:
    row = one_row("preference_pairs_2", {"recipe": "balanced"})
    rows = pd.concat([row.assign(origin="iteration_2"), row.assign(origin="replay")])
    assert warehouse.replace("preference_pairs_2", {"recipe": "balanced"}, rows, stamp()).row_count == 2
    with pytest.raises(DeeperError, match="several rows have the key recipe 'balanced', domain 'x'"):
        warehouse.replace("preference_pairs_2", {"recipe": "balanced"}, pd.concat([rows, rows]), stamp())


def test_the_base_policy_of_a_method_has_no_file(warehouse) -> None:
    row = one_row("policies", {"method": "frozen_policy"}).assign(model="base")
    warehouse.replace("policies", {"method": "frozen_policy"}, row, stamp())
    [row] = warehouse.load("policies").to_dict("records")
    assert row["model"] == "base"
    assert pd.isna([row[name] for name in ("recipe", "iteration", "file", "sha256")]).all()
