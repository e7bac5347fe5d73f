import pandas as pd

from deeper_assets.method.induction.next_items import SUMMARY
from deeper_assets.reports.figures import ranking_figures
from deeper_assets.reports.next_items import next_items_as_markdown, next_items_as_text

NAN = float("nan")
TABLE = pd.DataFrame(
    [
        ("personas_popular", "hit_10", 5, 20, 0.2, 0.1, 0.3, 0.05, 0.01, 0.09, -0.1, -0.2, 0.1, 0.25, 0.125),
        ("personas_popular", "mrr", 5, 20, 0.04, 0.03, 0.05, *[NAN] * 6, 0.25, 0.125),
        ("personas_popular", "ndcg_10", 5, 20, 0.06, 0.05, 0.07, *[NAN] * 6, 0.25, 0.125),
        ("popularity", "hit_10", 5, 20, 0.15, 0.1, 0.2, *[NAN] * 3, -0.15, -0.2, -0.1, 0.25, 0),
        ("popularity", "mrr", 5, 20, 0.04, 0.03, 0.05, *[NAN] * 6, 0.25, 0),
        ("popularity", "ndcg_10", 5, 20, NAN, NAN, NAN, *[NAN] * 6, 0.25, 0),
    ],
    columns=list(SUMMARY),
)


def test_rankers_stand_in_their_order_with_what_they_differ_by() -> None:
    first, _, popularity, personas = next_items_as_text(TABLE).splitlines()
    assert first == (
        "next items: 5 evaluation users, 20 windows, the whole catalogue ranked;"
        " 25.0% of the items are not in it"
    )
    assert popularity.split() == [
        *("popularity", "0.150", "[0.100,", "0.200]", "–", "0.040"),
        *("-0.150", "[-0.200,", "-0.100]", "0.0%"),
    ]
    assert personas.split() == [
        *("personas_popular", "0.200", "[0.100,", "0.300]", "0.060", "0.040"),
        *("+0.050", "[+0.010,", "+0.090]", "-0.100", "[-0.200,", "+0.100]", "12.5%"),
    ]


def test_the_page_of_the_asset_shows_the_same() -> None:
    lines = next_items_as_markdown(TABLE).splitlines()
    assert lines[0].count("|") == 11
    assert lines[2].startswith(r"| popularity | 0\.150 | \[0.100, 0.200\] | – |")
    assert len(lines) == 4
    assert next_items_as_markdown(TABLE[:0]) == "no rows"


def test_figures_are_named_by_ranker_and_measure() -> None:
    told = ranking_figures(TABLE)
    assert told["personas_popular mrr"] == 0.04
    assert "popularity ndcg_10" not in told
