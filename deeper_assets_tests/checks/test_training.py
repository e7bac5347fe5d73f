"""The checks on iterations and models: each fails where what it guards against is there, and says what."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import AssetCheckResult, AssetCheckSeverity

from deeper_assets.checks.iterations import (
    candidates_differ,
    candidates_usable,
    chosen_beats_rejected,
    every_domain_trains_1,
    every_domain_trains_2,
    groups_compare,
    only_training_users,
)
from deeper_assets.checks.models import adapter_whole, texts_end
from deeper_assets.method.recipes import RECIPES
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


TRAINING = ("book", "recipe")


def figures(result: AssetCheckResult) -> dict[str, Any]:
    """The figures of a check, as its page has them."""
    return {name: value.value for name, value in (result.metadata or {}).items()}


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


def test_candidates_that_cannot_be_used_stop_a_run_beyond_a_limit() -> None:
    passed = candidates_usable(candidates(None, "echo"), 0.5)
    assert passed.passed
    failed = candidates_usable(candidates(None, "echo", "truncated", "truncated"), 0.5)
    assert not failed.passed
    assert failed.description is not None
    assert "75.0% unreadable, limit 50%" in failed.description
    assert failed.description.endswith("most often: truncated")
    reasons = {"truncated": 2, "echo": 1}
    assert figures(failed) == {"rows": 4, "share unreadable": 0.75, "limit": 0.5, "reasons": reasons}


def test_contexts_with_one_text_alone_are_warned_of() -> None:
    alone, several = candidates(None), candidates(None, None, user="b")
    assert candidates_differ(pd.concat([alone, several])).passed
    failed = candidates_differ(pd.concat([alone, several, candidates(None, user="c")]))
    assert not failed.passed
    assert failed.severity == AssetCheckSeverity.WARN
    assert failed.description == "2 of 3 contexts have a single candidate"
    assert figures(failed) == {
        "contexts": 3,
        "with a single candidate": 2,
        "mean candidates a context": pytest.approx(4 / 3),
    }


@pytest.mark.parametrize(
    ("recipe", "changed", "passes"),
    [
        ("paper", {}, True),  # 0.5 in iteration 1
        ("paper", {"reward_chosen": 0.4, "margin": 0.4}, False),
        ("paper", {"reward_chosen": 0.4, "margin": 0.5}, False),  # the margin is not what the rewards say
        ("paper", {"origin": "iteration_2"}, False),  # 0.8 in iteration 2
        ("paper", {"origin": "iteration_2", "reward_chosen": 0.8, "margin": 0.8}, True),
        ("paper", {"origin": "replay", "reward_chosen": 0.9, "margin": 0.9}, True),
        ("paper", {"origin": "replay", "reward_chosen": 0.8, "margin": 0.8}, False),  # not above 0.8
        ("paper", {"origin": "replay"}, False),
        ("balanced", {"origin": "replay", "reward_chosen": 0.2, "margin": 0.2}, True),  # above 0.1
        ("balanced", {"origin": "iteration_2"}, True),  # 0.1
        ("balanced", {"reward_chosen": -0.5, "reward_rejected": 0.0, "margin": -0.5}, False),
        ("balanced", {"reward_chosen": 0.0, "margin": 0.0}, False),
    ],
)
def test_chosen_beats_rejected_by_the_recipes_margin(
    recipe: str, changed: dict[str, Any], passes: bool
) -> None:
    pairs = pd.concat([pair(reward_chosen=9.0, margin=9.0), pair(**changed)], ignore_index=True)
    result = chosen_beats_rejected(pairs, RECIPES[recipe])
    assert result.passed == passes
    assert result.description == f"2 pairs, {int(not passes)} without their margin"
    row = pair(**changed).iloc[0]
    smallest = min(9.0, row["reward_chosen"] - row["reward_rejected"])
    assert figures(result) == {
        "pairs": 2,
        "without their margin": int(not passes),
        "smallest margin": pytest.approx(smallest),
    }


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
    result = only_training_users(pairs, TRAINING, experiment.warehouse)
    assert result.passed == passes
    assert result.description == f"{int(not passes)} of 2 rows are of someone who does not train"


def test_no_pairs_are_left_to_the_training_to_complain_of(experiment: Experiment) -> None:
    nothing = pair().iloc[:0]
    assert only_training_users(nothing, TRAINING, experiment.warehouse).passed
    no_pairs = chosen_beats_rejected(nothing, RECIPES["paper"])
    no_groups = groups_compare(group().iloc[:0], RECIPES["balanced"])
    assert no_pairs.passed
    assert no_groups.passed
    assert figures(no_pairs) == {"pairs": 0, "without their margin": 0}
    assert figures(no_groups) == {"groups": 0, "with nothing to compare": 0}


def group(*rewards: float, origin: str = "iteration_1", user: str = "a") -> pd.DataFrame:
    """One group of book's training user with these rewards."""
    row = {"recipe": "balanced", "domain": "book", "user_id": user, "round": 1, "origin": origin}
    rows = [row | {"candidate": number, "reward": reward} for number, reward in enumerate(rewards or (0.0,))]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("rows", "passes"),
    [
        (group(0.5, 0.0, 0.0, user="b"), True),
        (group(0.2, 0.2, user="b"), False),  # nothing is preferred to anything
        (group(0.2, user="b"), False),
        (group(0.2, float("nan"), user="b"), False),  # a reward is unknown
        (group(0.2, 0.0, origin="replay"), True),  # above 0.1
        (group(0.1, 0.0, origin="replay"), False),
    ],
)
def test_a_group_with_nothing_to_compare_stops_a_training(rows: pd.DataFrame, passes: bool) -> None:
    result = groups_compare(pd.concat([group(1.0, 0.5), rows], ignore_index=True), RECIPES["balanced"])
    assert result.passed == passes
    assert result.description == f"2 groups, {int(not passes)} with nothing to compare"


def test_a_group_of_someone_who_does_not_train_is_found(experiment: Experiment) -> None:
    groups = pd.concat([group(1.0, 0.5), group(1.0, 0.5, user="e")])
    result = only_training_users(groups, TRAINING, experiment.warehouse)
    assert not result.passed
    assert result.description == "2 of 4 rows are of someone who does not train"
    assert figures(result) == {"rows": 4, "of someone who does not train": 2}


def test_a_domain_that_was_not_sampled_is_named(experiment: Experiment) -> None:
    def sampled(domain: str) -> None:
        rows = candidates(None).assign(domain=domain)
        experiment.warehouse.replace("candidates_1", {"domain": domain}, rows, stamp())

    def first(recipe: str) -> AssetCheckResult:
        return every_domain_trains_1(pair(), RECIPES[recipe], TRAINING, experiment.warehouse)

    sampled("book")
    assert not first("paper").passed
    assert (
        first("paper").description
        == "missing: recipe; sample them (for the templates of train_recipes), or set training_domains"
    )
    # Another recipe's template has not been sampled at all.
    assert (
        first("inc_ft").description
        == "missing: book, recipe; sample them (for the templates of train_recipes), or set training_domains"
    )
    assert figures(first("inc_ft")) == {"training domains": 2, "missing": 2, "rows by domain": {"book": 1}}
    sampled("recipe")
    assert first("paper").passed
    assert not every_domain_trains_2(pair(), "paper", TRAINING, experiment.warehouse).passed


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
    assert figures(partial) == {"bytes": len("adapter_config.json"), "missing": 1, "damaged": 0}


@pytest.mark.parametrize(
    ("ended", "passed", "severity"),
    [
        (1.0, True, None),
        (0.98, True, None),
        (0.97, False, AssetCheckSeverity.WARN),
        (0.8, False, AssetCheckSeverity.WARN),
        (0.79, False, AssetCheckSeverity.ERROR),
        (None, True, None),
    ],
)
def test_a_policy_that_runs_on_is_seen(
    ended: float | None, passed: bool, severity: AssetCheckSeverity | None
) -> None:
    result = texts_end(pd.DataFrame({"file": ["a", "b"], "ended": [ended, ended]}))
    assert result.passed == passed
    assert passed or result.severity == severity


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
            (f"preference_groups_{i}", "groups_compare"),
            *((f"preference_{form}_{i}", "only_training_users") for form in ("pairs", "groups")),
            *((f"preference_{form}_{i}", "every_domain_trains") for form in ("pairs", "groups")),
            (f"model_{i}", "adapter_whole"),
            (f"model_{i}", "texts_end"),
        } <= blocking
