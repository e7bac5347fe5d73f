"""Recipes of policies that write sets of personas: what counts as better, and by which loss it is taught.

`grounded` weighs what the paper's abstract names: cohesion, alignment with the evidence, and truthfulness.
`foreseeing` is this project's: how well personas are separated, and how much of what the
person does next they cover, in place of cohesion.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from deeper_assets.method.pairs import ValidationSplit, mark_validation
from deeper_assets.method.rewards import weighted

COMPONENTS = ("cohesion", "separation", "alignment", "truthfulness", "lift", "recurrence")
"""Of the reward of a set, each 1 at most; see `rewards` and `claims`."""


@dataclass(frozen=True)
class SetRecipe:
    """How a policy of sets is trained.

    Attributes:
        weights: of the components, in the order of COMPONENTS; a set's reward is their weighted sum.
        loss: over all sets written for a context: LiPO-λ, or the softmax form of S-DPO.
    """

    weights: tuple[float, float, float, float, float, float]
    loss: Literal["lipo", "softmax"] = "lipo"


_FORESEEING = SetRecipe((0.0, 0.5, 0.5, 0.5, 1.0, 1.0))
_GROUNDED = SetRecipe((1.0, 0.0, 1.0, 1.0, 0.0, 0.0))

SET_RECIPES: Mapping[str, SetRecipe] = {
    "foreseeing": _FORESEEING,
    "grounded": _GROUNDED,
    "foreseeing_softmax": replace(_FORESEEING, loss="softmax"),
    "grounded_softmax": replace(_GROUNDED, loss="softmax"),
}

PLACE = ["domain", "user_id", "window"]
"""Columns that name a context: a person after a window."""


def total(rewards: pd.DataFrame, recipe: SetRecipe) -> "pd.Series[float]":
    """The weighted sum of the components, NaN where one that has a weight is unknown."""
    return weighted(rewards, COMPONENTS, recipe.weights)


def set_preferences(
    contexts: pd.DataFrame,
    candidates: pd.DataFrame,
    rewards: pd.DataFrame,
    domains: Sequence[str],
    name: str,
    recipe: SetRecipe,
    split: ValidationSplit,
) -> pd.DataFrame:
    """All usable sets of the contexts whose sets are not all worth the same.

    Args:
        contexts: rows of set_contexts.
        candidates: rows of set_candidates.
        rewards: rows of set_rewards.
        domains: those that train.
        name: of the recipe.
        recipe: what counts as better.
        split: which users measure the training.

    Returns:
        set_preferences rows.
    """
    worth = rewards[[*PLACE, "candidate"]].assign(reward=total(rewards, recipe))
    usable = candidates.loc[candidates["unusable"].isna(), [*PLACE, "candidate", "text"]]
    scored = usable.merge(worth.dropna(subset="reward"), on=[*PLACE, "candidate"], validate="one_to_one")
    scored = scored.merge(contexts[[*PLACE, "prompt"]], on=PLACE, validate="many_to_one")
    scored = scored[scored["domain"].isin(domains)].sort_values([*PLACE, "candidate"], ignore_index=True)
    differ = scored.groupby(PLACE)["reward"].transform("nunique") > 1
    rows = scored[differ].rename(columns={"text": "completion"}).assign(set_recipe=name)
    columns = ["set_recipe", *PLACE, "candidate", "prompt", "completion", "reward"]
    return mark_validation(rows[columns].reset_index(drop=True), split)


def set_examples(preferences: pd.DataFrame) -> pd.DataFrame:
    """Preferences as a trainer takes them.

    Returns:
        group (0-based, a number a context), prompt, completion, reward, validation.
    """
    groups = preferences.assign(group=preferences.groupby(PLACE).ngroup())
    return groups[["group", "prompt", "completion", "reward", "validation"]]


def inducers_of(recipes: Iterable[str]) -> tuple[str, ...]:
    """The inducers that a policy of sets makes: the untrained one, and one a recipe."""
    trained = tuple(recipes)
    return (UNTRAINED, *trained) if trained else ()


UNTRAINED = "untrained"
"""The inducer whose sets the policy writes before any training."""
