"""Lineage: what was read stays true after the inputs have been made anew."""

from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.lineage import render, trace
from deeper_assets.method.faults import DeeperError
from deeper_assets.store.warehouse import Recipe, Stamp, Version, Warehouse

BOOK = {"domain": "book"}


def windows(rating: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "domain": "book",
            "user_id": ["a", "b"],
            "split": "eval",
            "window": 0,
            "place": 0,
            "item_id": "i",
            "title": "T",
            "rating": rating,
            "rated_at": pd.NaT,
        }
    )


def personas() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "domain": "book",
            "user_id": ["a", "b"],
            "split": "eval",
            "persona": "Someone.",
            "note": None,
            "attempts": 1,
            "model": "chatty-1",
        }
    )


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    store = Warehouse(tmp_path / "warehouse.duckdb")
    read = store.replace("rating_windows", BOOK, windows(4.0), Stamp("run-windows", Recipe("1", {"seed": 7})))
    recipe = Recipe("2", {"chat": "chatty-1"})
    store.replace("initial_personas", BOOK, personas(), Stamp("run-personas", recipe, (read.as_input(),)))
    return store


def test_the_tree_names_runs_settings_models_and_inputs(warehouse: Warehouse) -> None:
    node = trace(warehouse, "initial_personas", "book", "a")
    text = render(node)
    assert [child.table for child in node.made_from] == ["rating_windows"]
    for line in (
        "run run-personas",
        "chat: chatty-1",
        "model chatty-1",
        "user a: 1 rows",
        "seed: 7",
        "code version 2",
    ):
        assert line in text
    assert text.splitlines()[0] == "initial_personas [book]"


def test_an_input_made_anew_is_said_to_be(warehouse: Warehouse) -> None:
    def versions() -> tuple[Version, ...]:
        return trace(warehouse, "initial_personas").made_from[0].versions

    (before,) = versions()
    warehouse.replace("rating_windows", BOOK, windows(5.0), Stamp("run-later", Recipe("1", {"seed": 7})))
    assert versions() == (before,)  # still what the personas were made from
    text = render(trace(warehouse, "initial_personas"))
    assert "run run-windows" in text
    assert "run-later" not in text
    assert "! 1 of these partitions have been made anew since" in text


@pytest.mark.parametrize(
    ("table", "domain", "user", "message"),
    [
        ("nothing", None, None, "table 'nothing' does not exist; known: raw_ratings"),
        ("mae_table", None, None, "nothing of mae_table has been made"),
        ("initial_personas", "grocery", None, "for domain 'grocery'"),
        ("initial_personas", None, "z", "user 'z' has no row"),
    ],
)
def test_what_is_not_there_is_named(
    warehouse: Warehouse, table: str, domain: str | None, user: str | None, message: str
) -> None:
    with pytest.raises(DeeperError) as error:
        trace(warehouse, table, domain, user)
    assert message in str(error.value)
