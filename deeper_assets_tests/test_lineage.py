"""Lineage: what was read stays true after the inputs have been made anew."""

from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.lineage import render, trace
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.ledger import Ingredients, Stamp, Version
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse

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
    read = store.replace(
        "rating_windows", BOOK, windows(4.0), Stamp("run-windows", Ingredients("1", {"seed": 7}))
    )
    ingredients = Ingredients("2", {"chat": "chatty-1"})
    store.replace(
        "initial_personas", BOOK, personas(), Stamp("run-personas", ingredients, (read.as_input(),))
    )
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
    warehouse.replace("rating_windows", BOOK, windows(5.0), Stamp("run-later", Ingredients("1", {"seed": 7})))
    assert versions() == (before,)  # still what the personas were made from
    text = render(trace(warehouse, "initial_personas"))
    assert "run run-windows" in text
    assert "run-later" not in text
    assert "! 1 of these partitions have been made anew since" in text


def test_pairs_are_counted_by_domain_and_origin_and_a_models_files_are_named(warehouse: Warehouse) -> None:
    origins = ["iteration_2", "iteration_2", "replay", "iteration_2"]
    pairs = pd.DataFrame(
        {
            "recipe": "balanced",
            "domain": ["book", "book", "book", "grocery"],
            "user_id": ["a", "b", "a", "a"],
            "round": 2,
            "pair": [0, 0, 1, 0],
            "prompt": "?",
            "chosen": "x",
            "rejected": "y",
            "reward_chosen": 1.0,
            "reward_rejected": 0.0,
            "margin": 1.0,
            "origin": origins,
            "validation": 0,
        }
    )
    paired = warehouse.replace(
        "preference_pairs_2", {"recipe": "balanced"}, pairs, Stamp("run-pairs", Ingredients("1", {}))
    )
    digest = sha256(b"weights").hexdigest()
    files = pd.DataFrame(
        [("balanced", "adapter_model.safetensors", b"weights", 7, digest, 1.0)],
        columns=["recipe", "file", "content", "size", "sha256", "ended"],
    )
    warehouse.replace(
        "model_2",
        {"recipe": "balanced"},
        files,
        Stamp("run-model", Ingredients("1", {"beta": 0.2}), (paired.as_input(),)),
    )
    text = render(trace(warehouse, "model_2"))
    assert f"file adapter_model.safetensors sha256 {digest[:16]}" in text
    assert "book: 2 of iteration_2, 1 of replay" in text
    assert "grocery: 1 of iteration_2" in text
    assert "grocery" not in render(trace(warehouse, "model_2", domain="book"))


def test_source_files_of_several_domains_are_all_named(warehouse: Warehouse) -> None:
    for domain in ("book", "recipe"):
        source = {"kind": "published", "files": {f"{domain}.csv": f"{domain} digest"}}
        rows = pd.DataFrame(columns=[c.name for c in TABLES["raw_ratings"].columns])
        warehouse.replace(
            "raw_ratings", {"domain": domain}, rows, Stamp("run", Ingredients("1", {"source": source}))
        )
    text = render(trace(warehouse, "raw_ratings"))
    assert text.count("source: kind published") == 2
    assert "file book.csv sha256 book digest" in text
    assert "file recipe.csv sha256 recipe digest" in text


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
