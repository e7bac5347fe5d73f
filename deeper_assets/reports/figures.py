"""The figures of a table under names that stay, so that their history can be drawn.

An unknown figure is left out: it is no number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from deeper_assets.method.errors import MACRO, over_trainings
from deeper_assets.method.ordering import order_by_round
from deeper_assets.method.pairs import CONTEXT
from deeper_assets.method.rewards import COMPONENTS
from deeper_assets.reports.text import by_kind

Figures = dict[str, float]


def round_figures(round_errors: pd.DataFrame) -> Figures:
    """Means over users of each round: of the error, of the order of pairs and of the share of tied ones.

    round_errors rows of one domain and method, or control_errors rows of a control.
    """
    means = round_errors.groupby("round")["error"].mean()
    figures = {f"MAE round {number}": mae for number, mae in means.items()}
    for row in order_by_round(round_errors, ["round"]).to_dict("records"):
        figures[f"pairwise accuracy round {row['round']}"] = row["pairwise_accuracy"]
        figures[f"ties round {row['round']}"] = row["ties"]
    return _known(figures)


def macro_figures(table: pd.DataFrame) -> Figures:
    """The macro average of every method, control, ceiling and floor, in each round (mae_table rows).

    Of a recipe that is trained several times it is the mean.
    """
    macro = over_trainings(table[table["domain"] == MACRO])
    ordered = macro.sort_values(["kind", "method", "round"], key=by_kind)
    return _known({f"{row['method']} round {row['round']}": row["mae"] for row in ordered.to_dict("records")})


def gap_figures(gaps: pd.DataFrame) -> Figures:
    """What each method differs by from a floor, and its interval (rows of `bootstrap_gaps`).

    Below 0 where the method errs less; rating points.
    """
    ends = {"": "difference", " low": "low", " high": "high"}
    return _known(
        {
            f"{row['method']} minus {row['against']}{end}": row[column]
            for end, column in ends.items()
            for row in gaps.to_dict("records")
        }
    )


def ranking_figures(table: pd.DataFrame) -> Figures:
    """Each measure of every ranker of next items (next_items_table rows)."""
    return _known({f"{row['ranker']} {row['measure']}": row["mean"] for row in table.to_dict("records")})


def pair_figures(pairs: pd.DataFrame) -> Figures:
    """How many pairs there are, and their mean margin, rating points (preference_pairs rows)."""
    return {"pairs": len(pairs), **_known({"mean margin": pairs["margin"].mean()})}


def group_figures(groups: pd.DataFrame) -> Figures:
    """How many contexts have candidates to compare (preference_groups rows); a replayed one counts again."""
    return {"groups": len(groups[[*CONTEXT, "origin"]].drop_duplicates())}


def reward_figures(rewards: pd.DataFrame) -> Figures:
    """Mean and spread (standard deviation) of each known reward, rating points (rewards rows)."""
    means = {f"mean {name}": rewards[name].mean() for name in COMPONENTS}
    return _known(means | {f"spread {name}": rewards[name].std(ddof=0) for name in COMPONENTS})


def training_figures(log: Sequence[Mapping[str, Any]]) -> Figures:
    """The last loss and reward accuracy of each kind of examples (see `loss_plot` for the log)."""
    last = {row["kind"]: row for row in log}
    return _known(
        {
            f"{kind} {name}": row[column]
            for kind, row in sorted(last.items())
            for column, name in (("loss", "loss"), ("reward_accuracy", "accuracy"))
        }
    )


def ending_figures(endings: Mapping[str, Any]) -> Figures:
    """The share of a trained policy's texts that come to an end, and their mean length (its report)."""
    names = {"ended": "share that comes to an end", "tokens": "mean tokens of a text"}
    return _known({name: endings.get(key) for key, name in names.items()})


def _known(figures: Mapping[str, Any]) -> Figures:
    return {name: float(value) for name, value in figures.items() if pd.notna(value)}
