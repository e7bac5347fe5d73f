"""Tables for people and programs."""

import json
import struct

import pandas as pd
import pytest

from deeper_assets.reports.page import render_page
from deeper_assets.reports.plots import as_markdown, mae_plot
from deeper_assets.reports.text import as_json, as_text, round_table


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        ("book", "inc_update", "method", 0, 3, 1.0, 0.25, 0.9),
        ("book", "inc_update", "method", 1, 4, 0.4, 0.0, 0.8),
        ("book", "full_regen", "method", 0, 4, 1.0, 0.0, None),
        ("book", "full_regen", "method", 1, 4, None, 1.0, None),
        ("book", "floor_user_mean", "floor", 0, 4, 0.7, 0.0, None),
        ("book", "floor_user_mean", "floor", 1, 4, 0.5, 0.0, None),
    ]
    columns = ["domain", "method", "kind", "round", "users", "mae", "unreadable", "paper_mae"]
    frame = pd.DataFrame(rows, columns=columns).astype({"mae": float, "paper_mae": float})
    return pd.concat([frame, frame.assign(domain="macro")], ignore_index=True)


def test_methods_stand_before_floors_the_best_first(table: pd.DataFrame) -> None:
    got = round_table(table, "book")
    assert got["method"].tolist() == ["inc_update", "full_regen", "floor_user_mean"]
    assert got[1].tolist()[0] == 0.4
    assert got["unreadable"].tolist() == [0.25, 1.0, 0.0]
    assert got["paper"].tolist()[0] == 0.8


def test_text_never_shows_an_unknown_as_a_number(table: pd.DataFrame) -> None:
    lines = as_text(table).splitlines()
    (full,) = [line for line in lines[: len(lines) // 2] if line.startswith("  full_regen")]
    assert full.split() == ["full_regen", "1.000", "-", "-", "100.0%"]
    assert lines[0] == "macro average over 1 domains: MAE on the next window by round, 4 users"


def test_text_of_chosen_domains_keeps_the_average(table: pd.DataFrame) -> None:
    assert "book:" not in as_text(table, ["grocery"])
    assert "macro average" in as_text(table, ["grocery"])


def test_json_is_plain_and_unknown_is_null(table: pd.DataFrame) -> None:
    said = json.loads(json.dumps(as_json(table, "offline"), allow_nan=False))
    assert list(said) == ["profile", "rounds", "macro"]
    assert said["rounds"][3] == {
        "domain": "book",
        "method": "full_regen",
        "kind": "method",
        "round": 1,
        "users": 4,
        "mae": None,
        "unreadable": 1.0,
    }
    assert said["macro"][0] == {"method": "inc_update", "kind": "method", "round": 0, "mae": 1.0}
    assert len(said["rounds"]) == len(said["macro"]) == 6


def test_plot_is_a_png(table: pd.DataFrame) -> None:
    png = mae_plot(table, "book")
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (750, 420)
    assert as_markdown(png).startswith("![MAE by round](data:image/png;base64,iVBOR")


def test_page_marks_figures_under_every_floor_and_escapes_personas(table: pd.DataFrame) -> None:
    personas = pd.DataFrame(
        {
            "domain": "book",
            "method": "inc_update",
            "user_id": "u<1>",
            "round": [0, 1],
            "persona": ["first <script>alert(1)</script>", None],
        }
    )
    page = render_page(table, personas, "offline")
    assert page.count('class="under">0.400') == 2  # the average and the domain; 0.4 < 0.5
    assert 'class="under">1.000' not in page
    assert "<script>" not in page
    assert "u&lt;1&gt;" in page
    assert "(no readable persona)" in page
    assert "The offline stand-in" in page
    assert "The offline stand-in" not in render_page(table, personas, "mine")
