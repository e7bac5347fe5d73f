"""The checks on iterations and models: each fails where what it guards against is there, and says what."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from dagster import AssetCheckExecutionContext, AssetCheckSeverity

from deeper_assets.checks.iterations import (
    candidates_differ,
    candidates_usable,
    chosen_beats_rejected,
    every_domain_trains,
    only_training_users,
)
from deeper_assets.checks.models import adapter_whole
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.adapters import as_rows
from deeper_assets_tests.store.samples import stamp


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Two domains train; in book, user a trains and user e is evaluated."""
    here = Experiment(tmp_path, Settings(training_domains=["book", "recipe"], unreadable_limit=0.5))
    for domain in ("book", "grocery"):
        windows = pd.DataFrame(
            {
                "domain": domain,
                "user_id": ["a", "e"],
                "split": ["train", "eval"],
                "window": 0,
                "place": 0,
                "item_id": "i",
                "title": "T",
                "rating": 1.0,
                "rated_at": pd.NaT,
            }
        )
        here.warehouse.replace("rating_windows", {"domain": domain}, windows, stamp())
    return here


def at(recipe: str) -> AssetCheckExecutionContext:
    """The context of a check on a recipe's partition."""
    return cast(
        AssetCheckExecutionContext,
        SimpleNamespace(op_execution_context=SimpleNamespace(partition_key=recipe)),
    )


def candidates(*unusable: str | None, user: str = "a") -> pd.DataFrame:
    rows = [
        {
            "domain": "book",
            "template": "refinement",
            "user_id": user,
            "round": 1,
            "candidate": number,
            "persona": f"Persona {number}",
            "copies": 1,
            "tokens": 5,
            "unusable": reason,
            "names_item": 0,
            "states_score": 0,
            "model": "m",
        }
        for number, reason in enumerate(unusable)
    ]
    return pd.DataFrame(rows)


def pair(**changed: Any) -> pd.DataFrame:
    """One pair of book's training user, with a margin of 0.5; some values changed."""
    row = {
        "recipe": "paper",
        "domain": "book",
        "user_id": "a",
        "round": 1,
        "pair": 0,
        "reward_chosen": 0.5,
        "reward_rejected": 0.0,
        "margin": 0.5,
        "origin": "iteration_1",
    }
    return pd.DataFrame([row | changed])


def test_candidates_that_cannot_be_used_stop_a_run_beyond_a_limit(experiment: Experiment) -> None:
    passed = candidates_usable(experiment, candidates(None, "echo"))
    assert passed.passed
    failed = candidates_usable(experiment, candidates(None, "echo", "truncated", "truncated"))
    assert not failed.passed
    assert failed.description is not None
    assert "75.0% unreadable, limit 50%" in failed.description
    assert failed.description.endswith("most often: truncated")


def test_contexts_with_one_text_alone_are_warned_of() -> None:
    alone, several = candidates(None), candidates(None, None, user="b")
    assert candidates_differ(pd.concat([alone, several])).passed
    failed = candidates_differ(pd.concat([alone, several, candidates(None, user="c")]))
    assert not failed.passed
    assert failed.severity == AssetCheckSeverity.WARN
    assert failed.description == "2 of 3 contexts have a single candidate"


@pytest.mark.parametrize(
    ("recipe", "changed", "passes"),
    [
        ("paper", {}, True),  # 0.5 in iteration 1
        ("paper", {"reward_chosen": 0.4, "margin": 0.4}, False),
        ("paper", {"reward_chosen": 0.4, "margin": 0.5}, False),  # the margin is not what the rewards say
        ("paper", {"origin": "iteration_2"}, False),  # 0.8 in iteration 2
        ("paper", {"origin": "iteration_2", "reward_chosen": 0.8, "margin": 0.8}, True),
        ("paper", {"origin": "replay"}, True),
        ("balanced", {"origin": "iteration_2"}, True),  # 0.1
        ("balanced", {"reward_chosen": -0.5, "reward_rejected": 0.0, "margin": -0.5}, False),
        ("balanced", {"reward_chosen": 0.0, "margin": 0.0}, False),
    ],
)
def test_chosen_beats_rejected_by_the_recipes_margin(
    experiment: Experiment, recipe: str, changed: dict[str, Any], passes: bool
) -> None:
    pairs = pd.concat([pair(reward_chosen=9.0, margin=9.0), pair(**changed)], ignore_index=True)
    found = chosen_beats_rejected(at(recipe), experiment, pairs)
    assert found.passed == passes
    assert found.description == f"2 pairs, {int(not passes)} without their margin"


@pytest.mark.parametrize(
    ("domain", "user", "passes"),
    [
        ("book", "a", True),
        ("book", "e", False),  # is evaluated
        ("book", "z", False),  # nobody knows
        ("grocery", "a", False),  # trains, but in a domain that does not
    ],
)
def test_a_pair_of_someone_who_does_not_train_is_found(
    experiment: Experiment, domain: str, user: str, passes: bool
) -> None:
    pairs = pd.concat([pair(), pair(domain=domain, user_id=user)], ignore_index=True)
    found = only_training_users(experiment, pairs)
    assert found.passed == passes
    assert found.description == f"{int(not passes)} of 2 pairs are of someone who does not train"


def test_no_pairs_are_left_to_the_training_to_complain_of(experiment: Experiment) -> None:
    nothing = pair().iloc[:0]
    assert only_training_users(experiment, nothing).passed
    assert chosen_beats_rejected(at("paper"), experiment, nothing).passed


def test_a_domain_that_was_not_sampled_is_named(experiment: Experiment) -> None:
    key = {"domain": "book", "template": "refinement"}
    experiment.warehouse.replace("candidates_1", key, candidates(None), stamp())
    missing = every_domain_trains(1)(at("paper"), experiment, pair())
    assert not missing.passed
    assert missing.description == "missing: recipe; sample them, or set training_domains"
    # Another recipe's prompt has not been sampled at all.
    other = every_domain_trains(1)(at("inc_ft"), experiment, pair())
    assert other.description == "missing: book, recipe; sample them, or set training_domains"
    key = {"domain": "recipe", "template": "refinement"}
    rows = candidates(None).assign(domain="recipe")
    experiment.warehouse.replace("candidates_1", key, rows, stamp())
    assert every_domain_trains(1)(at("paper"), experiment, pair()).passed
    assert not every_domain_trains(2)(at("paper"), experiment, pair()).passed


def test_a_damaged_or_partial_adapter_is_named(tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text(name)
    rows = as_rows(tmp_path)
    assert adapter_whole(rows).passed
    damaged = adapter_whole(rows.assign(content=[b"x", rows["content"][1]]))
    assert not damaged.passed
    assert damaged.description == "missing: none; damaged: adapter_config.json"
    partial = adapter_whole(rows.iloc[:1])
    assert not partial.passed
    assert partial.description == "missing: adapter_model.safetensors; damaged: none"


def test_the_checks_stand_on_the_tables_of_both_iterations(experiment: Experiment) -> None:
    from deeper_assets.definitions import build_definitions

    graph = build_definitions(experiment).resolve_asset_graph()
    blocking = {
        (key.asset_key.to_user_string(), key.name)
        for key in graph.asset_check_keys
        if graph.get(key).blocking
    }
    for i in (1, 2):
        assert {
            (f"candidates_{i}", "candidates_usable"),
            (f"preference_pairs_{i}", "chosen_beats_rejected"),
            (f"preference_pairs_{i}", "only_training_users"),
            (f"preference_pairs_{i}", "every_domain_trains"),
            (f"model_{i}", "adapter_whole"),
        } <= blocking
