"""The checks on the ranking of next items."""

import pandas as pd
from dagster import AssetCheckSeverity

from deeper_assets.checks.next_items import personas_add_to_popularity, rankers_rank_the_same
from deeper_assets.method.induction.next_items import CEILING, RANKERS, SUMMARY

SCORES = pd.DataFrame(
    [(user, 0, ranker, 3, 1) for user in "uw" for ranker in RANKERS if ranker != CEILING],
    columns=["user_id", "window", "ranker", "catalogue", "unseen"],
)


def test_every_ranker_ranks_every_window() -> None:
    assert rankers_rank_the_same(SCORES).passed
    assert rankers_rank_the_same(SCORES[:0]).passed
    fewer = rankers_rank_the_same(SCORES[1:])
    assert not fewer.passed
    assert fewer.description == "2 windows, 1 without a ranker, 0 with other items by ranker"
    other = rankers_rank_the_same(SCORES.assign(catalogue=[4] + [3] * (len(SCORES) - 1)))
    assert other.description == "2 windows, 0 without a ranker, 1 with other items by ranker"


def summary(over_popularity: float, over_one_persona: float) -> pd.DataFrame:
    rows = [("personas_popular", "hit_10"), ("personas_popular", "mrr"), ("popularity", "hit_10")]
    table = pd.DataFrame(rows, columns=["ranker", "measure"]).reindex(columns=list(SUMMARY))
    for rival, low in (("popularity", over_popularity), ("one_persona_popular", over_one_persona)):
        table[f"over_{rival}"] = low + 0.01
        table[f"over_{rival}_low"], table[f"over_{rival}_high"] = low, low + 0.02
    return table


def test_personas_that_add_nothing_are_warned_of() -> None:
    assert personas_add_to_popularity(summary(0.001, 0.002)).passed
    told = personas_add_to_popularity(summary(0.01, -0.005))
    assert (told.passed, told.severity) == (False, AssetCheckSeverity.WARN)
    assert told.description == (
        "Hit@10 +0.020 [+0.010, +0.030] over popularity; +0.005 [-0.005, +0.015] over one_persona_popular"
    )
    assert personas_add_to_popularity(summary(1, 1)[:0]).passed
