"""Tables for people and programs."""

import base64
import html
import json
import math
import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from deeper_assets.reports.induction import Person, Why
from deeper_assets.reports.page import ReEvaluation, render_page
from deeper_assets.reports.plots import as_markdown, loss_plot, mae_plot
from deeper_assets.reports.text import as_json, as_text, comparison_text, round_table
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.reports import induced


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        ("book", "inc_update", "method", 0, 3, 1.0, 0.25, 0.0, 0.9, 0.5),
        ("book", "inc_update", "method", 1, 4, 0.4, 0.0, 0.02, 0.8, -0.05),
        ("book", "full_regen", "method", 0, 4, 1.0, 0.0, 0.125, None, 0.5),
        ("book", "full_regen", "method", 1, 4, None, 1.0, 0.0, None, None),
        ("book", "ceiling_said", "ceiling", 0, 4, 0.1, 0.0, 0.0, None, -0.5),
        ("book", "ceiling_said", "ceiling", 1, 4, 0.1, 0.0, 0.0, None, -0.5),
        ("book", "control_none", "control", 0, 4, 0.9, 0.0, 0.0, None, 0.3),
        ("book", "control_none", "control", 1, 4, 0.3, 0.0, 0.0, None, -0.1),
        ("book", "floor_user_mean", "floor", 0, 4, 0.7, 0.0, 0.0, None, None),
        ("book", "floor_user_mean", "floor", 1, 4, 0.5, 0.0, 0.0, None, None),
    ]
    columns = [
        "domain",
        "method",
        "kind",
        "round",
        "users",
        "mae",
        "unreadable",
        "kept",
        "paper_mae",
        "gap_high",
    ]
    frame = pd.DataFrame(rows, columns=columns).astype({"mae": float, "paper_mae": float, "gap_high": float})
    frame["pairwise_accuracy"] = [None, 0.75, *[None] * 8]
    frame = frame.assign(asked=4, users_ordered=0, ties=[0.5, 0.25, *[1.0] * 8])
    return pd.concat([frame, frame.assign(domain="macro")], ignore_index=True)


@pytest.fixture
def comparison() -> pd.DataFrame:
    nan = math.nan
    rows = [
        ("deeper", "method", 0, 1, 9, 0.1, nan, 0.05, 0.15, None, *[nan] * 6),
        ("deeper", "method", 1, 1, 9, 0.5, nan, 0.41, 0.6, None, nan, nan, nan, 0.625, 0.5, 0.75),
        ("full_regen", "method", 1, 1, 9, 0.75, nan, 0.6004, 0.9, "deeper", 0.25, 0.125, 0.375, *[nan] * 3),
        ("inc_update", "method", 1, 1, 8, nan, nan, nan, nan, "deeper", *[nan] * 6),
        ("paper", "method", 1, 1, 9, 0.4, nan, 0.3, 0.5, "deeper", -0.1, -0.2, 0.0, *[nan] * 3),
        ("control_none", "control", 1, 1, 9, 0.3, nan, 0.2, 0.4, "deeper", -0.2, -0.3, -0.1, *[nan] * 3),
    ]
    return pd.DataFrame(rows, columns=list(TABLES["comparison_table"].column_names))


@pytest.fixture
def not_made(comparison: pd.DataFrame) -> pd.DataFrame:
    return comparison.iloc[:0]


def test_methods_controls_ceilings_and_floors_stand_in_this_order_the_best_first(table: pd.DataFrame) -> None:
    got = round_table(table, "book")
    assert got["method"].tolist() == [
        *("inc_update", "full_regen", "control_none", "ceiling_said", "floor_user_mean")
    ]
    assert got[1].tolist()[0] == 0.4
    assert got["unreadable"].tolist() == [0.25, 1.0, 0.0, 0.0, 0.0]
    assert got["kept"].tolist() == [0.02, 0.125, 0.0, 0.0, 0.0]
    assert got["paper"].tolist()[0] == 0.8
    assert got["pairs"].tolist()[0] == 0.75  # of the last round
    assert got["ties"].tolist() == [0.25, 1.0, 1.0, 1.0, 1.0]


def test_text_never_shows_an_unknown_as_a_number(table: pd.DataFrame, not_made: pd.DataFrame) -> None:
    lines = as_text(table, not_made).splitlines()
    (full,) = [line for line in lines[: len(lines) // 2] if line.startswith("  full_regen")]
    assert full.split() == ["full_regen", "1.000", "-", "-", "100.0%", "12.5%", "-", "100%"]
    (floor, _) = [line for line in lines if line.startswith("  floor_user_mean")]
    assert floor.split() == ["floor_user_mean", "0.700", "0.500", "-", "-", "100%"]
    assert [line for line in lines[: len(lines) // 2] if set(line) == {" ", "-"}] == [f"  {'-' * 81}"] * 3
    assert max(map(len, lines)) == 83
    assert lines[0] == "macro average over 1 domains: MAE on the next window by round, 4 users"


def test_text_compares_methods_in_the_last_round_the_best_first(comparison: pd.DataFrame) -> None:
    lines = comparison_text(comparison.sample(frac=1, random_state=1)).splitlines()
    assert max(map(len, lines)) <= 110
    assert [re.sub(" +", " ", line.strip()) for line in lines] == [
        "last round, macro average with 95 % intervals (bootstrap over users)",
        "MAE interval from deeper interval pairs interval",
        "paper 0.400 [0.300, 0.500] -0.100 [-0.200, +0.000] - -",
        "deeper 0.500 [0.410, 0.600] - - 0.625 [0.500, 0.750]",
        "full_regen 0.750 [0.600, 0.900] +0.250 [+0.125, +0.375] - -",
        "inc_update - - - - - -",
        "control_none 0.300 [0.200, 0.400] -0.200 [-0.300, -0.100] - -",
    ]


def test_a_recipe_trained_several_times_is_one_line_with_its_spread(
    table: pd.DataFrame, comparison: pd.DataFrame
) -> None:
    pair = table[table["method"] == "inc_update"].assign(method="inc_update_seed_2")
    pair["mae"] += 0.2
    spread = [0.01, 0.0125, math.nan, math.nan, 0.5, math.nan]
    several = comparison.assign(trainings=[3, 3, 1, 1, 3, 1], training_sd=spread)
    average, compared, _ = as_text(pd.concat([table, pair]), several).split("\n\n")
    words = [re.sub(" +", " ", line.strip()) for line in average.splitlines()[1:4]]
    # 0.4 and 0.6: their standard deviation is 0.2/√2.
    assert words == [
        "round 0 round 1 paper unreadable kept pairs ties trainings",
        "inc_update 1.100 0.500 0.800 25.0% 2.0% 0.750 25% 2 ±0.141",
        "full_regen 1.000 - - 100.0% 12.5% - 100%",
    ]
    assert [re.sub(" +", " ", line.strip()) for line in compared.splitlines()[:4]] == [
        "last round, macro average with 95 % intervals (over users and trainings)",
        "MAE interval from deeper interval pairs interval trainings",
        "paper 0.400 [0.300, 0.500] -0.100 [-0.200, +0.000] - - 3 ±0.500",
        "deeper 0.500 [0.410, 0.600] - - 0.625 [0.500, 0.750] 3 ±0.013",
    ]
    page = render_page(pd.concat([table, pair]), several, pd.DataFrame(), [], "offline", True)
    assert "inc_update_seed_2" not in page
    assert "<td>2 ±0.141</td>" in page
    assert "intervals (over users and trainings)" in page


def test_the_comparison_stands_between_average_and_domains_if_it_was_made(
    table: pd.DataFrame, comparison: pd.DataFrame, not_made: pd.DataFrame
) -> None:
    average, domain = as_text(table, not_made).split("\n\n")
    assert as_text(table, comparison).split("\n\n") == [average, comparison_text(comparison), domain]


def test_json_is_plain_and_unknown_is_null(table: pd.DataFrame, comparison: pd.DataFrame) -> None:
    answer = json.loads(json.dumps(as_json(table, comparison, "offline"), allow_nan=False))
    assert list(answer) == ["profile", "rounds", "macro", "comparison"]
    assert answer["rounds"][3] == {
        "domain": "book",
        "method": "full_regen",
        "kind": "method",
        "round": 1,
        "asked": 4,
        "users": 4,
        "mae": None,
        "unreadable": 1.0,
        "kept": 0.0,
        "pairwise_accuracy": None,
        "users_ordered": 0,
        "ties": 1.0,
    }
    assert answer["macro"][0] == {
        **{"method": "inc_update", "kind": "method", "round": 0, "mae": 1.0},
        **{"pairwise_accuracy": None, "ties": 0.5},
    }
    assert len(answer["rounds"]) == len(answer["macro"]) == 10
    assert len(answer["comparison"]) == 6  # every round
    assert answer["comparison"][1] == {
        "method": "deeper",
        "kind": "method",
        "round": 1,
        "trainings": 1,
        "users": 9,
        "mae": 0.5,
        "training_sd": None,
        "mae_low": 0.41,
        "mae_high": 0.6,
        "against": None,
        "difference": None,
        "difference_low": None,
        "difference_high": None,
        "pairwise_accuracy": 0.625,
        "pairwise_low": 0.5,
        "pairwise_high": 0.75,
    }
    assert answer["comparison"][4]["against"] == "deeper"
    assert answer["comparison"][4]["difference_high"] == 0


def test_json_of_a_comparison_never_made_is_empty(table: pd.DataFrame, not_made: pd.DataFrame) -> None:
    assert as_json(table, not_made, "offline")["comparison"] == []


def test_a_plot_is_small_and_says_its_figures(table: pd.DataFrame) -> None:
    drawn = mae_plot(table, "book")
    assert drawn == mae_plot(table, "book")
    assert drawn.startswith('<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="540pt" height="302.4pt"')
    texts = [
        element.text for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert texts[:3] == ["0", "1", "round (updates behind the persona)"]
    assert texts[-6:] == [
        "book: error of the next window by round",
        *("full_regen", "inc_update", "control_none", "ceiling_said", "floor_user_mean"),
    ]
    (told,) = re.findall(r"!\[MAE by round\]\(data:image/svg\+xml;base64,(.*)\)", as_markdown(drawn))
    assert base64.b64decode(told).decode() == drawn
    assert len(told) < 20_000


def test_the_plot_of_a_long_training_is_small_and_ends_where_it_ends() -> None:
    log = [
        {"kind": kind, "step": step, "loss": 1 / (1 + step % 7), "reward_accuracy": step % 10 / 10}
        for step in range(5001)
        for kind in ("training", "validation")[: 1 + (step % 500 == 0)]
    ]
    drawn = loss_plot(log)
    assert len(as_markdown(drawn)) < 30_000
    assert drawn == loss_plot([row for row in log if row["kind"] == "validation" or row["step"] % 51 == 2])
    assert loss_plot([]).startswith("<svg")


@pytest.mark.parametrize(
    ("changed", "marked"),
    [
        ({}, True),
        ({"gap_high": 0.001}, False),  # lower than every floor, but perhaps by chance
        ({"kept": 0.021}, False),
        ({"unreadable": 0.01}, False),  # and 2 % kept
        ({"kept": 0.0, "unreadable": 0.02}, True),
    ],
)
def test_page_marks_a_figure_that_lies_under_every_floor_with_nobody_missing(
    table: pd.DataFrame, not_made: pd.DataFrame, changed: dict[str, float], marked: bool
) -> None:
    low = table["mae"] == 0.4
    table.loc[low, list(changed)] = list(changed.values())
    page = render_page(table, not_made, pd.DataFrame(), [], "mine", True)
    # The average and the domain.
    assert page.count('class="under">') == page.count('class="under">0.400') == (2 if marked else 0)


def test_page_marks_the_mean_of_trainings_by_all_of_them(table: pd.DataFrame, not_made: pd.DataFrame) -> None:
    pair = table[table["method"] == "inc_update"].assign(method="inc_update_seed_2", gap_high=math.nan)
    alike, worse = (pd.concat([table, one]) for one in (pair, pair.assign(kept=0.1)))
    page = render_page(alike, not_made, pd.DataFrame(), [], "mine", True)
    assert page.count('class="under">') == page.count('class="under">0.400') == 2
    # The first training keeps 2 % at most, both together 6 %.
    assert 'class="under">' not in render_page(worse, not_made, pd.DataFrame(), [], "mine", True)


def test_page_shows_who_is_missing_and_escapes_personas(table: pd.DataFrame, not_made: pd.DataFrame) -> None:
    personas = pd.DataFrame(
        {
            "domain": "book",
            "method": "inc_update",
            "user_id": "u<1>",
            "round": [0, 1],
            "persona": ["first <script>alert(1)</script>", None],
        }
    )
    page = render_page(table, not_made, personas, [], "mine", True)
    assert page.count('class="under">0.400') == 2  # the average and the domain; 0.4 < 0.5
    assert 'class="under">1.000' not in page
    assert 'class="under">0.300' not in page  # a control
    assert page.count('<tr class="control"><td>control_none</td>') == 2
    assert "<script>" not in page
    assert "u&lt;1&gt;" in page
    assert "(no readable persona)" in page
    assert "The offline stand-in" in page
    assert "The offline stand-in" not in render_page(table, not_made, personas, [], "mine", False)


def test_page_leads_from_personas_to_the_lines_that_they_were_read_from(
    table: pd.DataFrame, not_made: pd.DataFrame
) -> None:
    sets, members = (rows[rows["window"] == 1] for rows in (induced.SETS, induced.MEMBERS))
    why = Why(sets, members, induced.MEMORIES, induced.EVIDENCE, induced.EVENTS, sets.iloc[:0])
    person = Person("book", "u<1>", 1, why)
    figures = pd.DataFrame(
        [("clusters", 0, 9.0, 0.5, 0.9), ("clusters", 1, 2.5, 0.25, 0.625)],
        columns=["inducer", "window", "personas", "single", "planted_f1"],
    ).assign(planted_f1_low=0.5, planted_f1_high=0.75, aimless_personas=0.5)
    page = render_page(table, not_made, pd.DataFrame(), [], "mine", False, figures, [person])
    cells = ("clusters", "2.50", "25.0%", "0.625", "[0.500, 0.750]", "0.50")
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    assert f"<tr>{row}</tr>" in page
    shown = re.sub(
        r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.split("What personas rest on")[1]))
    )
    told = (
        "Book: user u<1>, after window 1 dragons (changed) Was after <b>dragons</b>. 75% of what was read of"
        " this person, 25% of what was read of others; p = 0.001; 3 memories in 2 sessions session 0: old"
        " dragons 2021-03-05 17:02 Eragon log.csv:7 session 1: dragons 2021-03-05 17:02 Smaug <i> log.csv:9"
        " Fafnir log.csv:11 session 1: more dragons Glaurung no words (no_json) (ended)"
    )
    assert told in shown
    assert "Poirot" not in page, "an event of another memory"
    alone = render_page(table.iloc[:0], not_made, pd.DataFrame(), [], "mine", False, figures, [person])
    assert "Mean absolute error" not in alone and "What personas rest on" in alone
    without = render_page(table, not_made, pd.DataFrame(), [], "mine", False)
    assert "Several personas a person" not in without and "What personas rest on" not in without


def test_page_says_of_the_papers_figures_that_they_keep_zeros(
    table: pd.DataFrame, not_made: pd.DataFrame
) -> None:
    said = "It counts the zeros of Food.com (domain recipe) as ratings; here they are rejected"
    assert said in render_page(table, not_made, pd.DataFrame(), [], "mine", False)
    own = table.assign(paper_mae=math.nan)
    assert said not in render_page(own, not_made, pd.DataFrame(), [], "mine", False)


def test_page_compares_methods_under_the_average(
    table: pd.DataFrame, comparison: pd.DataFrame, not_made: pd.DataFrame
) -> None:
    page = render_page(table, comparison, pd.DataFrame(), [], "offline", True)
    first, book = page.split("<h2>Book</h2>")
    assert "bootstrap" not in book
    rows = re.findall(r"<tr>(.*)</tr>", first.split("bootstrap over users")[1])
    assert [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows] == [
        ["", "MAE", "interval", "difference from deeper", "interval", "pairs", "interval"],
        ["paper", "0.400", "[0.300, 0.500]", "-0.100", "[-0.200, +0.000]", "–", "–"],
        ["deeper", "0.500", "[0.410, 0.600]", "–", "–", "0.625", "[0.500, 0.750]"],
        ["full_regen", "0.750", "[0.600, 0.900]", "+0.250", "[+0.125, +0.375]", "–", "–"],
        ["inc_update", "–", "–", "–", "–", "–", "–"],
        ["control_none", "0.300", "[0.200, 0.400]", "-0.200", "[-0.300, -0.100]", "–", "–"],
    ]
    assert "bootstrap" not in render_page(table, not_made, pd.DataFrame(), [], "offline", True)


def test_page_says_what_a_re_evaluation_has_changed(table: pd.DataFrame, not_made: pd.DataFrame) -> None:
    before, after = {"deeper": 0.5, "inc_update": 0.75}, {"deeper": 0.5, "inc_update": 0.625, "new": 1.0}
    done = [
        ReEvaluation("2026-01-13T06:00+00:00", ["book|inc_update"], ["recipe|inc_update"], before, after),
        ReEvaluation("2026-01-06T06:00+00:00", [], [], {}, {}),
    ]
    page = render_page(table, not_made, pd.DataFrame(), done, "offline", True)
    second, first = page.split("<h2>Re-evaluations</h2>")[1].split("<h3>")[1:]
    assert second.startswith("2026-01-13T06:00+00:00")
    assert "1 evaluations made: book|inc_update." in second
    assert "1 failed: recipe|inc_update." in second
    assert [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr><td>.*</tr>", second)] == [
        ["deeper", "0.500", "0.500", "+0.000"],
        ["inc_update", "0.750", "0.625", "-0.125"],
        ["new", "–", "1.000", "–"],
    ]
    assert second.count('class="moved"') == 2
    assert "The tables were not made again." in first
    assert "The tables were not made again" not in second
    only_made = [ReEvaluation("2026-01-06T06:00+00:00", ["book|inc_update"], [], {}, {})]
    page = render_page(table, not_made, pd.DataFrame(), only_made, "offline", True)
    assert "The tables were not made again: no error has changed." in page
    assert "Re-evaluations" not in render_page(table, not_made, pd.DataFrame(), [], "offline", True)
