"""Cards as the Hub reads them."""

from typing import Any

import pandas as pd
import pytest
from huggingface_hub import DatasetCard, ModelCard

from deeper_assets.reports.cards import Figures, Origin, dataset_card, model_card

PAIRS = pd.DataFrame(
    {
        "domain": "book",
        "iteration": [1, 1, 2],
        "origin": "x",
        "validation": [0, 1, 0],
        "user": ["a", "b", "a"],
    }
)
DIGEST = "0123456789abcdef" * 4


def origin(**changed: Any) -> Origin:
    values: dict[str, Any] = {
        "recipe": "paper",
        "profile": "paper",
        "chats": ("gpt-4o-mini",),
        "stand_in": False,
        "policy": "meta-llama/Llama-3.1-8B-Instruct",
        "template": "refinement",
        "loss": "pairwise",
        "version": "0.1.0",
        "sources": {
            "book": {"kind": "published", "dataset": "amazon_book", "files": {"train.csv": DIGEST}},
            "movielens": {"kind": "published", "dataset": "movielens_20m", "files": {}},
            "podcasts": {"kind": "custom", "files": {"ratings.csv": DIGEST}},
        },
        "settings": {"beta": "0.2", "seed": "7"},
        "tree": "model_2 [paper]\n│  seed: 7",
    }
    return Origin(**{**values, **changed})


def figures() -> Figures:
    rows = [("deeper_paper", "method", 0.5, 0.653), ("floor_user_median", "floor", 0.49, None)]
    table = pd.DataFrame(
        [
            (domain, name, kind, 4, 9, mae, 0.01, 0.03, paper)
            for domain in ("book", "grocery", "macro")
            for name, kind, mae, paper in rows
        ],
        columns=["domain", "method", "kind", "round", "users", "mae", "unreadable", "kept", "paper_mae"],
    ).assign(pairwise_accuracy=0.625, ties=0.25)
    compared = pd.DataFrame(
        [("deeper_paper", "method", 4, 1, 9, 0.5, 0.4, 0.6)],
        columns=["method", "kind", "round", "trainings", "users", "mae", "mae_low", "mae_high"],
    )
    return Figures(table, compared, ["deeper_paper"])


def test_the_card_of_a_dataset_says_where_its_splits_are_and_what_it_came_from() -> None:
    card = DatasetCard(dataset_card(PAIRS, {"train": "data/train.parquet"}, "trl", origin(), figures()))
    assert card.data.license == "other"
    (config,) = card.data.configs
    assert config["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    for line in (
        "3 pairs of 2 users",
        "| book | 1 | x | 2 | 1 |",
        "| book | 2 | x | 1 | 0 |",
        "| frozen chat model | gpt-4o-mini |",
        "| base policy | meta-llama/Llama-3.1-8B-Instruct |",
        "| beta | 0.2 |",
        "Amazon reviews (McAuley Lab, UC San Diego), as the paper's authors published them (`amazon_book`)",
        "MovieLens (GroupLens, University of Minnesota; not to be passed on without permission)",
        "| podcasts | data of whoever made this; ask them |",
        f"| book | train.csv | `{DIGEST}` |",
        f"| podcasts | ratings.csv | `{DIGEST}` |",
        "model_2 [paper]\n│  seed: 7",
        'a name that begins with "Llama"',
        "| **deeper_paper** | 0.500 | 0.653 | 1.0% | 3.0% |",
    ):
        assert line in card.text, line
    assert "stand-in" not in card.text
    assert '("FOLDER_OR_OWNER/NAME")  # train, as trl.DPOTrainer takes them' in card.text
    assert "did not learn from these pairs" not in card.text


def test_a_card_says_what_its_recipe_shows_the_policy_and_whether_pairs_taught_it() -> None:
    files = {"train": "train.json", "validation": "validation.json"}
    for template, shown in (
        ("refinement", "persona with the ratings predicted from it and the actual ones"),
        ("inc_update", "persona with the ratings that came after it"),
    ):
        other = origin(template=template, loss="lipo")
        pairs = dataset_card(PAIRS, files, "trl", other, None)
        assert f"| messages: the old {shown}, and two refinements |" in pairs
        assert "did not learn from these pairs but from all candidates" in pairs
        assert "# train and validation, as trl" in pairs
        assert f"it is shown a {shown},\n" in model_card(2, "base-1+2", "base", True, other, None)


def test_no_error_stands_in_a_card_without_its_floors() -> None:
    text = model_card(2, "base-1+2", "meta-llama/Llama-3.1-8B-Instruct", False, origin(), figures())
    assert "| **deeper_paper** | 0.500 | 0.653 | 1.0% | 3.0% |" in text
    assert "| floor_user_median | 0.490 | – |  |  |" in text
    assert "Means over these domains: book, grocery. Under `paper` is what the paper reports" in text
    assert "counts the zeros of Food.com (domain `recipe`) as ratings; here they are rejected" in text
    assert "**deeper_paper**. Last round: 0.500 on 9 users (95 % interval 0.400 to 0.600" in text
    unmeasured = model_card(2, "base-1+2", "meta-llama/Llama-3.1-8B-Instruct", False, origin(), None)
    assert "It has not been evaluated." in unmeasured
    assert "0.500" not in unmeasured


def test_the_card_of_one_of_several_trainings_tells_it_from_their_mean() -> None:
    known = figures()
    second = known.table[known.table["method"] == "deeper_paper"].assign(
        method="deeper_paper_seed_2", mae=0.6
    )
    compared = known.comparison.assign(trainings=2, mae=0.55, mae_low=0.3, mae_high=0.8)
    both = Figures(pd.concat([known.table, second]), compared, ["deeper_paper_seed_2"])
    text = model_card(2, "base-1+2", "meta-llama/Llama-3.1-8B-Instruct", False, origin(), both)
    assert "| **deeper_paper** | 0.550 | 0.653 | 1.0% |" in text
    assert "Last round: mean of 2 trainings with other seeds, 0.550 on 9 users (95 % interval 0.300" in text
    assert "to 0.800, over users and trainings).\nThis training alone (`deeper_paper_seed_2`): 0.600." in text


@pytest.mark.parametrize(
    ("policy", "base", "inside", "licence", "named"),
    [
        ("offline", "base", True, "apache-2.0", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", False, "llama3.1", "same"),
        ("Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2-7B-Instruct", False, "other", "same"),
        ("my-llama", "my-llama", False, "other", None),
    ],
)
def test_the_card_of_a_model_names_a_base_that_others_can_load(
    policy: str, base: str, inside: bool, licence: str, named: str | None
) -> None:
    card = ModelCard(model_card(1, "base-1+2", base, inside, origin(policy=policy), None))
    assert card.data.license == licence
    assert card.data.library_name == "peft"
    assert card.data.base_model == (base if named else None)
    assert (f'base = "{base}"' in card.text) != inside
    assert ('base = f"{folder}/base"' in card.text) == inside
    assert ("The base is a folder of whoever trained this" in card.text) == (policy == "my-llama")


def test_the_stand_in_is_called_one() -> None:
    for text in (
        model_card(1, "n", "base", True, origin(stand_in=True), None),
        dataset_card(PAIRS, {"train": "train.json"}, "llamafactory", origin(stand_in=True), None),
    ):
        assert "**The chat model was an embedded stand-in, not a language model.**" in text
