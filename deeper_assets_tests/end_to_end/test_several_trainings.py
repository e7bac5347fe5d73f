"""`deeper run` with another training of a recipe, in a home in which it was trained once."""

from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import deeper

pytestmark = pytest.mark.slow

DOMAINS = ["--domains", "book", "--train-users", "5", "--eval-users", "3"]
SMALL = {
    "DEEPER_TRAINING_DOMAINS": '["book"]',
    "DEEPER_TRAIN_RECIPES": '["balanced"]',
    "DEEPER_CANDIDATES": "6",
    "DEEPER_TRAINING": '{"epochs": 3, "batch_size": 2, "examples_at_once": 2, "learning_rate": 0.0005}',
}


def test_a_second_training_writes_other_texts_and_leaves_the_first_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    deeper("run", "--home", home, *DOMAINS, **SMALL)
    warehouse = Warehouse(home / "warehouse.duckdb")
    before = {version.place: version.version for version in warehouse.current()}
    deeper("run", "--home", home, **SMALL, DEEPER_TRAINING_SEEDS="2")

    after = {version.place: version.version for version in warehouse.current()}
    over_all = {"mae_table", "comparison_table", "chat_usage"}
    assert {place[0] for place in before if before[place] != after[place]} <= over_all
    assert {place[1] for place in after.keys() - before.keys() if place[0] == "model_2"} == {
        '{"recipe":"balanced_seed_2"}'
    }

    def texts(table: str, column: str) -> list[pd.Series]:  # of the first training, and of the second
        rows = warehouse.load(table)
        keys = [name for name in ("user_id", "round", "candidate", "file") if name in rows]
        first, second = ("deeper", "deeper_seed_2") if "method" in rows else ("balanced", "balanced_seed_2")
        of = rows.set_index(keys).groupby("method" if "method" in rows else "recipe")
        return [of.get_group(name)[column] for name in (first, second)]

    for table, column in (("model_1", "sha256"), ("model_2", "sha256"), ("persona_rounds", "persona")):
        first, second = texts(table, column)
        assert len(first) == len(second)
        assert (first != second).any(), table

    compared = warehouse.load("comparison_table")
    last = compared[compared["round"] == 4].set_index("method")
    assert (
        last["trainings"].to_dict().items() >= {"deeper": 2, "deeper_iteration_1": 2, "inc_update": 1}.items()
    )
    table = warehouse.load("mae_table").query("domain == 'macro' and round == 4").set_index("method")["mae"]
    assert last.loc["deeper", "mae"] == pytest.approx((table["deeper"] + table["deeper_seed_2"]) / 2)
    assert " 2 ±" in deeper("report", "--home", home).stdout
