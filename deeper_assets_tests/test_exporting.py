"""What `deeper export` writes from a warehouse, and what it refuses."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.exporting import export_model, export_pairs
from deeper_assets.graph import Graph
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.recipes import RECIPES
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.ledger import Ingredients, Stamp, Version
from deeper_assets.store.schema import TABLES

BALANCED = {"recipe": "balanced"}
CONFIG = json.dumps({"base_model_name_or_path": "0123", "r": 16}).encode()
Put = Callable[..., Version]


def files(**contents: bytes) -> pd.DataFrame:
    rows = [(name, content, len(content), sha256(content).hexdigest()) for name, content in contents.items()]
    return pd.DataFrame(rows, columns=["file", "content", "size", "sha256"])


def adapter(weights: bytes) -> pd.DataFrame:
    both = {"adapter_config.json": CONFIG, "adapter_model.safetensors": weights}
    return files(**both).assign(recipe="balanced", ended=1.0)


def pairs(origin: str, validation: int) -> pd.DataFrame:
    row = {
        **{"recipe": "balanced", "domain": "book", "user_id": "A1SECRET", "round": 1, "pair": 0},
        **{"prompt": "Refine.", "chosen": f"good {origin}", "rejected": "bad", "reward_chosen": 1.0},
        **{"reward_rejected": 0.0, "margin": 1.0, "origin": origin, "validation": validation},
    }
    return pd.DataFrame([row])


def figures() -> pd.DataFrame:
    names = (("deeper", "method"), ("floor_user_median", "floor"))
    rows = [("macro", name, kind, 4, 9, 9, 0.5, 0.0, 0.0, 9, 0.5, 0.5, None, None) for name, kind in names]
    return pd.DataFrame(rows, columns=list(TABLES["mae_table"].column_names))


@pytest.fixture
def here(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path / "home", Settings(profile=str(tmp_path / "mine.yaml")))


# As the ledger has these values; that it does is tested below.
CHAT = {"model": "gpt-x at http://127.0.0.1/v1", "asks": 3, "prompts": {"initial_persona": "0123"}}
RECIPE = {**vars(RECIPES["balanced"]), "template": "inc_update"}


def test_a_graph_records_what_cards_speak_of(here: Experiment) -> None:
    graph = Graph.of(here)
    assert graph.settings("initial_personas", {"domain": "book"})["chat"].keys() == CHAT.keys()
    assert graph.settings("base_policy", {})["policy"].keys() == {"name", "version"}
    assert graph.settings("preference_pairs_1", BALANCED)["recipe"].keys() == RECIPE.keys()


@pytest.fixture
def put(here: Experiment) -> Put:
    """Stores rows with what they were made from and some settings."""

    def put(
        table: str, partition: dict[str, str], rows: pd.DataFrame, *made_from: Version, **settings: object
    ) -> Version:
        stamp = Stamp(f"run-{table}", Ingredients("1", settings), tuple(map(Version.as_input, made_from)))
        return here.warehouse.replace(table, partition, rows, stamp)

    return put


@pytest.fixture
def base(put: Put) -> Version:
    return put("base_policy", {}, files(weights=b"base"), policy={"name": "offline", "version": "1"})


@pytest.fixture
def model(put: Put, base: Version, tmp_path: Path) -> Version:
    """Model 2 of one recipe with everything that a card speaks of behind it."""
    source = {"kind": "custom", "files": {str(tmp_path / "ratings.csv"): "ab" * 32}, "dsn_env": None}
    nothing = pd.DataFrame(columns=list(TABLES["raw_ratings"].column_names))
    raw = put("raw_ratings", {"domain": "book"}, nothing, source=source)
    nobody = pd.DataFrame(columns=list(TABLES["initial_personas"].column_names))
    personas = put("initial_personas", {"domain": "book"}, nobody, raw, chat=CHAT)
    chosen = pairs("iteration_1", 0)
    first = put("preference_pairs_1", BALANCED, chosen, personas, base, recipe=RECIPE)
    both = pd.concat([pairs("iteration_2", 1), pairs("replay", 0)])
    second = put("preference_pairs_2", BALANCED, both, first, margin_2=0.1)
    return put("model_2", BALANCED, adapter(b"two"), base, second, beta=0.2)


def test_pairs_in_both_forms(here: Experiment, model: Version, tmp_path: Path) -> None:
    export_pairs(here, tmp_path / "trl", "balanced", [1, 2], "trl")
    export_pairs(here, tmp_path / "factory", "balanced", [2], "llamafactory")
    written = {
        split: pd.read_parquet(tmp_path / "trl" / "data" / f"{split}.parquet")
        for split in ("train", "validation")
    }
    assert {split: [of[0]["content"] for of in rows["chosen"]] for split, rows in written.items()} == {
        "train": ["good iteration_1"],
        "validation": ["good iteration_2"],
    }
    info = json.loads((tmp_path / "factory" / "dataset_info.json").read_text())
    assert {name: dataset["file_name"] for name, dataset in info.items()} == {
        "deeper_balanced_train": "train.json",
        "deeper_balanced_validation": "validation.json",
    }
    (row,) = json.loads((tmp_path / "factory" / "train.json").read_text())
    assert (row["chosen"], row["origin"], row["iteration"]) == ("good replay", "replay", 2)


def test_a_split_without_pairs_is_no_file(here: Experiment, put: Put, tmp_path: Path) -> None:
    put("preference_pairs_1", BALANCED, pairs("iteration_1", 0))
    export_pairs(here, tmp_path / "out", "balanced", [1], "trl")
    assert [file.name for file in (tmp_path / "out" / "data").iterdir()] == ["train.parquet"]
    assert "split: validation" not in (tmp_path / "out" / "README.md").read_text()


def test_an_adapter_keeps_its_bytes_and_names_a_base_that_is_there(
    here: Experiment, model: Version, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "er" / "model"
    export_model(here, folder, "balanced", 2)
    assert (folder / "adapter_model.safetensors").read_bytes() == b"two"
    assert (folder / "base" / "weights").read_bytes() == b"base"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config == {"base_model_name_or_path": "base", "r": 16}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]  # nothing half-written is left


def test_a_base_of_ones_own_is_named_and_not_copied(here: Experiment, put: Put, tmp_path: Path) -> None:
    for number, (policy, named) in enumerate(
        (
            ("org/model", "org/model"),
            (str(tmp_path / "llama"), "llama"),
            (str(tmp_path / ("snapshots/" * 12) / "llama"), "llama"),
        )
    ):
        named_only = {"name": policy, "version": None}
        own = put("base_policy", {}, files(reference=policy.encode()), policy=named_only)
        put("model_1", BALANCED, adapter(b"one"), own)
        folder = tmp_path / f"out{number}"
        export_model(here, folder, "balanced", 1)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == named
        assert not (folder / "base").exists()
        for text in ("README.md", "lineage.json"):
            assert str(tmp_path) not in (folder / text).read_text()


def test_where_it_comes_from_is_told_without_ids_and_folders_of_this_machine(
    here: Experiment, model: Version, tmp_path: Path
) -> None:
    export_model(here, tmp_path / "model", "balanced", 2)
    export_pairs(here, tmp_path / "pairs", "balanced", [2], "trl")
    told = json.loads((tmp_path / "model" / "lineage.json").read_text())
    assert [one["table"] for one in told] == [
        *("base_policy", "raw_ratings", "initial_personas"),
        *("preference_pairs_1", "preference_pairs_2", "model_2"),
    ]
    assert told[-1]["run_id"] == "run-model_2"
    assert told[-1]["fingerprint"] == model.fingerprint
    assert told[-1]["ingredients"]["settings"] == {"beta": 0.2}
    card = (tmp_path / "model" / "README.md").read_text()
    for line in (
        "| profile, when exported | mine.yaml |",
        "| frozen chat model | gpt-x at http://127.0.0.1/v1 |",
        "| beta | 0.2 |",
        f"| book | ratings.csv | `{'ab' * 32}` |",
        "it is shown a persona with the ratings that came after it",
        "model_2 [balanced]\n",
    ):
        assert line in card, line
    assert "stand-in" not in card
    assert "(loss `lipo`)" in (tmp_path / "pairs" / "README.md").read_text()
    written = [path for kind in ("model", "pairs") for path in (tmp_path / kind).rglob("*") if path.is_file()]
    assert len(written) == 5 + 4
    for file in written:
        assert b"A1SECRET" not in file.read_bytes(), file
        assert str(tmp_path).encode() not in file.read_bytes(), file


def test_figures_stand_in_a_card_only_if_they_are_this_models(
    here: Experiment, put: Put, base: Version, model: Version, tmp_path: Path
) -> None:
    def measured(place: str) -> bool:
        export_model(here, tmp_path / place, "balanced", 2)
        return "| **deeper** | 0.500 |" in (tmp_path / place / "README.md").read_text()

    assert not measured("before")
    put("mae_table", {}, figures(), model)
    assert measured("evaluated")
    later = put("model_2", BALANCED, adapter(b"three"), base)
    assert not measured("trained anew")
    put("mae_table", {}, figures(), model, later)
    assert not measured("evaluated anew in some domains")
    put("mae_table", {}, figures().query("method != 'deeper'"), later)
    assert not measured("others evaluated")
    assert "It has not been evaluated." in (tmp_path / "others evaluated" / "README.md").read_text()
    put("mae_table", {}, figures(), later)
    assert measured("evaluated anew")


def test_pairs_show_what_the_policies_of_their_recipe_reach(
    here: Experiment, put: Put, model: Version, tmp_path: Path
) -> None:
    def measured(place: str) -> bool:
        export_pairs(here, tmp_path / place, "balanced", [1], "trl")
        return "| **deeper** | 0.500 |" in (tmp_path / place / "README.md").read_text()

    assert not measured("before")
    put("mae_table", {}, figures(), model)
    assert measured("evaluated")


@pytest.mark.parametrize("recipe", ["paper", "papr"])
def test_what_is_not_there_is_named_and_nothing_is_written(
    here: Experiment, model: Version, tmp_path: Path, recipe: str
) -> None:
    errors = {
        "paper": "model_2 of recipe 'paper' holds nothing in",
        "papr": "there is no recipe 'papr'; known: ",
    }
    with pytest.raises(DeeperError, match=errors[recipe]):
        export_model(here, tmp_path / "out", recipe, 2)
    assert not list(tmp_path.glob("*out*"))


def test_a_folder_with_something_in_it_is_left_alone(
    here: Experiment, model: Version, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    export_model(here, tmp_path / "out", "balanced", 2)  # empty is fine
    (tmp_path / "file").touch()
    for place in ("out", "file"):
        with pytest.raises(DeeperError, match=f"{place} is there and not empty; name another folder"):
            export_pairs(here, tmp_path / place, "balanced", [1], "trl")
    assert (tmp_path / "out" / "adapter_config.json").exists()


def test_the_folder_one_is_in_is_not_replaced(
    here: Experiment, model: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    for place in (Path(), inside):
        with pytest.raises(DeeperError, match="is the folder you are in, which cannot be replaced"):
            export_model(here, place, "balanced", 2)
    assert not list(tmp_path.glob("**/*unfinished"))


def test_an_adapter_whose_base_has_been_replaced_is_not_passed_off_with_the_new_one(
    here: Experiment, put: Put, model: Version, tmp_path: Path
) -> None:
    put("base_policy", {}, files(weights=b"another"), policy={"name": "offline", "version": "1"})
    with pytest.raises(
        DeeperError, match="trained on a base that has been replaced since; `deeper run` trains"
    ):
        export_model(here, tmp_path / "out", "balanced", 2)
