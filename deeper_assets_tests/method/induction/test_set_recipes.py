import pandas as pd
import pytest

from deeper_assets.method.induction.set_recipes import (
    COMPONENTS,
    SET_RECIPES,
    inducers_of,
    set_examples,
    set_preferences,
    total,
)
from deeper_assets.method.pairs import ValidationSplit

PLACE = ["domain", "user_id", "window"]


def rows(*values: tuple[object, ...], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[*PLACE, *columns])


def test_a_recipe_weighs_the_components() -> None:
    one = pd.DataFrame([(0.9, 0.4, 0.5, 1.0, -0.1, 0.25)], columns=list(COMPONENTS))
    assert list(total(one, SET_RECIPES["foreseeing"])) == [0.5 * 0.4 + 0.5 * 0.5 + 0.5 - 0.1 + 0.25]
    assert list(total(one, SET_RECIPES["grounded"])) == pytest.approx([0.9 + 0.5 + 1.0])


def test_what_has_no_weight_may_be_unknown_and_what_has_one_may_not() -> None:
    one = pd.DataFrame([(0.9, 0.4, 0.5, 1.0, None, None)], columns=list(COMPONENTS), dtype=float)
    assert total(one, SET_RECIPES["foreseeing"]).isna().all()
    assert total(one, SET_RECIPES["grounded"]).notna().all()


def test_the_losses_of_a_recipe_differ_and_its_weights_do_not() -> None:
    for name in ("foreseeing", "grounded"):
        lipo, softmax = SET_RECIPES[name], SET_RECIPES[f"{name}_softmax"]
        assert (lipo.weights, lipo.loss, softmax.loss) == (softmax.weights, "lipo", "softmax")


def test_preferences_are_usable_sets_of_contexts_that_differ_in_domains_that_train() -> None:
    places = [("book", "u", 2), ("book", "v", 2), ("movie", "u", 2)]
    contexts = rows(*((*place, f"prompt {place}") for place in places), columns=("prompt",))
    candidates = rows(
        *((*place, number, f"text {number}", None) for place in places for number in (0, 1)),
        ("book", "u", 2, 2, "broken", "no_json"),
        columns=("candidate", "text", "unusable"),
    )
    values = {("book", "u"): (0.0, 1.0), ("book", "v"): (0.5, 0.5), ("movie", "u"): (0.0, 1.0)}
    rewards = rows(
        *((*place, number, *[values[place[:2]][number]] * 6) for place in places for number in (0, 1)),
        columns=("candidate", *COMPONENTS),
    )
    made = set_preferences(
        contexts, candidates, rewards, ["book"], "grounded", SET_RECIPES["grounded"], ValidationSplit(0.0, 1)
    )
    assert made[["user_id", "candidate", "completion", "reward", "validation"]].values.tolist() == [
        ["u", 0, "text 0", 0.0, 0],
        ["u", 1, "text 1", 3.0, 0],
    ]
    assert set_examples(made).columns.tolist() == ["group", "prompt", "completion", "reward", "validation"]
    assert set(set_examples(made)["group"]) == {0}


def test_policies_come_with_the_untrained_one() -> None:
    assert inducers_of(["grounded"]) == ("untrained", "grounded")
    assert inducers_of([]) == ()
