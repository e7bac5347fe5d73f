"""Preference pairs and groups (Section 3.2): which candidates a policy is taught to prefer.

A pair is two candidates of one context whose rewards differ by a recipe's margin and lie within its bounds; a
group is all of a context's candidates with their rewards. Both are made from all training domains together.

Departs from the paper: it does not say how many pairs a context may give, nor how iteration 1's are chosen
for iteration 2; `choose_pairs` and `replayed` say how it is done here. It validates on some of the pairs,
here on all pairs of some users, because pairs of one context give each other away.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deeper_assets.method.recipes import Recipe
from deeper_assets.method.rewards import DECIMALS, total
from deeper_assets.method.windows import stable_share

CONTEXT = ["domain", "user_id", "round"]
"""Columns that name a context within one origin."""

REPLAY = "replay"
"""Origin of what iteration 2 takes over from iteration 1."""


def score_candidates(
    candidates: pd.DataFrame, rewards: pd.DataFrame, contexts: pd.DataFrame, recipe: Recipe
) -> pd.DataFrame:
    """Usable candidates of known reward, with the prompts of their contexts.

    Args:
        candidates: candidates rows of any number of domains.
        rewards: their rewards.
        contexts: their contexts.
        recipe: whose weights make a reward.

    Returns:
        CONTEXT, candidate, persona, reward (rating points) and prompt, by context and candidate.
    """
    worth = rewards[[*CONTEXT, "candidate"]].assign(reward=total(rewards, recipe.weights))
    usable = candidates.loc[candidates["unusable"].isna(), [*CONTEXT, "candidate", "persona"]]
    scored = usable.merge(
        worth[worth["reward"].notna()], on=[*CONTEXT, "candidate"], validate="one_to_one"
    ).merge(contexts[[*CONTEXT, "prompt"]], on=CONTEXT, validate="many_to_one")
    return scored.sort_values([*CONTEXT, "candidate"], ignore_index=True)


def choose_pairs(scored: pd.DataFrame, recipe: Recipe, name: str, iteration: int) -> pd.DataFrame:
    """Pairs of every context: a chosen candidate and one that is rejected in its favour.

    A context gives at most `recipe.pairs_at_most` pairs, taken one after another: of those left, the ones
    whose two candidates stand in the fewest pairs taken so far, of these the one of the largest margin, and
    of equals the one of the lowest candidate numbers, chosen before rejected. So the first pair is the best
    against the worst, the next the second best against the second worst, and so on: every pair shows two
    texts not seen yet while there are any, where the best against everything would say one thing k times.

    Args:
        scored: `score_candidates` rows.
        recipe: bounds, margins and number of pairs.
        name: of the recipe.
        iteration: 1 or 2: says which margin holds, and the origin.

    Returns:
        preference_pairs rows but for `validation`, by context and pair.
    """
    starts, totals = _by_context(scored)
    least_margin = recipe.margin_1 if iteration == 1 else recipe.margin_2
    # One axis for contexts, one for the chosen candidate, one for the rejected; NaN fills the shorter ones.
    margins = np.round(totals[:, :, None] - totals[:, None, :], DECIMALS)
    allowed = (margins >= least_margin) & (margins > 0)
    if recipe.chosen_at_least is not None:
        allowed &= (totals >= recipe.chosen_at_least)[:, :, None]
    if recipe.rejected_at_most is not None:
        allowed &= (totals <= recipe.rejected_at_most)[:, None, :]
    number, context, better, worse = _taken(margins, allowed, recipe.pairs_at_most)
    best, worst = scored.iloc[starts[context] + better], scored.iloc[starts[context] + worse]
    pairs: pd.DataFrame = best[[*CONTEXT, "prompt"]].assign(
        recipe=name,
        pair=number,
        chosen=best["persona"],
        rejected=worst["persona"].to_numpy(),
        reward_chosen=best["reward"],
        reward_rejected=worst["reward"].to_numpy(),
        margin=margins[context, better, worse],
        origin=f"iteration_{iteration}",
    )
    columns = [
        *("recipe", *CONTEXT, "pair", "prompt", "chosen", "rejected"),
        *("reward_chosen", "reward_rejected", "margin", "origin"),
    ]
    return pairs[columns].sort_values([*CONTEXT, "pair"], ignore_index=True)


def _taken(margins: np.ndarray, allowed: np.ndarray, at_most: int) -> np.ndarray:
    """The pairs that `choose_pairs` takes, a column each; rows: pair, context, chosen, rejected.

    `margins` and `allowed` have an axis for contexts, one for the chosen candidate, one for the rejected.
    """
    left, size = allowed.copy(), margins.shape[1]
    uses = np.zeros(margins.shape[:2], dtype=np.int64)
    taken = [np.empty((4, 0), dtype=np.int64)]
    for pair in range(at_most):
        some = np.flatnonzero(left.any(axis=(1, 2)))
        cost = np.where(left[some], uses[some, :, None] + uses[some, None, :], 2 * at_most)
        cheapest = cost == cost.min(axis=(1, 2), keepdims=True)
        value = np.where(cheapest, margins[some], -np.inf).reshape(len(some), size**2)
        chosen, rejected = np.divmod(value.argmax(axis=1), size)
        left[some, chosen, rejected] = False
        uses[some, chosen] += 1
        uses[some, rejected] += 1
        taken.append(np.stack([np.full(len(some), pair), some, chosen, rejected]))
    return np.concatenate(taken, axis=1)


def group_candidates(scored: pd.DataFrame, name: str, iteration: int) -> pd.DataFrame:
    """Every candidate of the contexts whose candidates are not all worth the same.

    Bounds and margins do not apply: a groupwise loss weighs each comparison by what it is worth.

    Args:
        scored: `score_candidates` rows.
        name: of the recipe.
        iteration: 1 or 2: says the origin.

    Returns:
        preference_groups rows but for `validation`, by context and candidate.
    """
    differ = scored.groupby(CONTEXT)["reward"].transform("nunique") > 1
    groups = scored[differ].rename(columns={"persona": "completion"})
    groups = groups.assign(recipe=name, origin=f"iteration_{iteration}")
    columns = ["recipe", *CONTEXT, "candidate", "prompt", "completion", "reward", "origin"]
    return groups[columns].reset_index(drop=True)


def replayed(first: pd.DataFrame, recipe: Recipe, own: int) -> pd.DataFrame:
    """The pairs (or groups) of iteration 1 that join iteration 2.

    Only those of a margin above `recipe.replay_margin` can, a group's being its best reward minus its worst.
    Of these a sample by stable hash is drawn, not the largest margins: these come from the users, and so the
    domains, whose first persona was worst, and iteration 2 would hear of little else. A hash draws from each
    domain as many as it has, and from a run to the next the same ones. (The paper: 5,000 of its 34,782.)

    Args:
        first: preference_pairs or preference_groups rows of iteration 1.
        recipe: margin and share of the replay.
        own: how many pairs (groups) iteration 2 has of its own.

    Returns:
        At most round(recipe.replay x own) pairs or groups, all rows of each, with the origin REPLAY.
    """
    unit = [*CONTEXT, "pair"] if "pair" in first.columns else CONTEXT
    if "pair" in first.columns:
        margin = first["margin"]
    else:
        reward = first.groupby(CONTEXT)["reward"]
        margin = (reward.transform("max") - reward.transform("min")).round(DECIMALS)
    rows = first[margin > recipe.replay_margin]
    units = rows[unit].drop_duplicates()
    share = [stable_share(REPLAY, *of) for of in units.itertuples(index=False, name=None)]
    drawn = units.assign(share=share).nsmallest(round(recipe.replay * own), "share")
    kept = rows.merge(drawn[unit], on=unit).assign(origin=REPLAY)
    return kept.sort_values([*CONTEXT, *kept.columns.intersection(["pair", "candidate"])], ignore_index=True)


@dataclass(frozen=True)
class ValidationSplit:
    """Which users measure a training: this share (0-1) of them, by a hash with this seed."""

    share: float
    seed: int


def mark_validation(examples: pd.DataFrame, split: ValidationSplit) -> pd.DataFrame:
    """`examples` with `validation`: 1 where they measure the training, 0 where they are trained on.

    A user (`domain` and `user_id`) is on one side with all examples, whatever their iteration and whoever
    else there is.
    """
    owners = list(zip(examples["domain"], examples["user_id"], strict=True))
    sides = {
        owner: int(stable_share(split.seed, "validation", *owner) < split.share) for owner in set(owners)
    }
    return examples.assign(validation=np.array([sides[owner] for owner in owners], dtype=np.int64))


def training_examples(preferences: pd.DataFrame) -> pd.DataFrame:
    """Preferences (preference_pairs or preference_groups rows of one recipe) as a trainer takes them.

    Returns:
        Of pairs: prompt, chosen, rejected, validation. Of groups: group (0-based, a number a context and
        origin), prompt, completion, reward, validation.
    """
    if "pair" in preferences.columns:
        return preferences[["prompt", "chosen", "rejected", "validation"]]
    groups = preferences.assign(group=preferences.groupby([*CONTEXT, "origin"]).ngroup())
    return groups[["group", "prompt", "completion", "reward", "validation"]]


def _by_context(scored: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Where each context's rows begin, and its rewards as one row of a matrix, NaN where it has fewer."""
    grouped = scored.groupby(CONTEXT, sort=True)
    context, place = grouped.ngroup().to_numpy(), grouped.cumcount().to_numpy()
    starts = np.flatnonzero(place == 0)
    totals = np.full((len(starts), place.max(initial=0) + 1), np.nan)
    totals[context, place] = scored["reward"].to_numpy()
    return starts, totals
