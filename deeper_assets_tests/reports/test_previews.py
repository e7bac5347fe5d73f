"""Previews: what people see of a partition, whatever other people's texts say."""

import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from deeper_assets.reports.previews import (
    CELL,
    EVENTS,
    LINKS,
    PREVIEW,
    SETTINGS,
    cell,
    cut,
    escaped,
    first_rows,
    made_from,
    preview,
    quoted,
    settings_table,
    table,
)
from deeper_assets_tests.reports import induced

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a | b | c\n--- | --- | ---\n1 | 2 | 3",
    "`code` ```\nfence\n``` ~~~",
    "![image](https://evil.example/x.png) [link](javascript:alert(1)) <http://evil.example>",
    "see https://evil.example, www.evil.example or me@evil.example",
    "# heading\n## heading\ntext\n===\ntext\n---\n***",
    "- list\n+ list\n* list\n1. list\n2) list",
    "> quotation\n\n    code\n\tcode",
    "**bold** _it_ ~~gone~~ &amp; &lt; \\ \\* [^1]\n[^1]: note\n[a]: /b 'c'",
    "line\r\nline\u2028line\x0bline\x00\u202egnp.exe",
    "\\",
    "",
]

LINK = re.compile(r"(https?://|www(?=\.))|[-.\w+]@[-\w]+\.", re.IGNORECASE)
"""What the UI makes a link of, even where its marks are escaped."""


def parsed(markdown: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)


def text_of(tokens: list[Token]) -> str:
    """All that is text, where nothing else is inside of lines; lines end at the block's end."""
    lines = []
    for token in tokens:
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "text_special"}
            lines.append("".join(child.content for child in token.children or []))
    return "\n".join(lines)


def plain(text: str) -> str:
    """A text's words, as a page shows them: no control characters, lines or blanks of its own."""
    seen = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]", " ", text)
    return " ".join(seen.replace("\u2060", "").split())


TEXTS = st.text() | st.text(alphabet="a1 .)-+=*_#>|`~[]()!<&;:/@w\\\n")


@given(TEXTS)
@pytest.mark.parametrize("hostile", [*HOSTILE, None])
def test_a_text_is_text_in_a_quotation(hostile: str | None, text: str) -> None:
    text = text if hostile is None else hostile
    tokens = parsed(f"**before**\n\n{quoted(text, 10_000)}\n\nafter")
    inside = tokens[3:-3]
    assert {token.type for token in inside} == {
        *("blockquote_open", "blockquote_close", "paragraph_open", "paragraph_close", "inline")
    }
    shown = text_of(inside)
    assert not LINK.search(shown)
    assert plain(shown) == (plain(text) if text.strip() else "(empty)")


@given(TEXTS)
@example("| x |")
def test_a_text_is_text_in_a_cell(text: str) -> None:
    tokens = parsed(table(["a", "b"], [[text, "end"]]))
    cells = [token for token in tokens if token.type == "inline"]
    assert [token.type for token in tokens].count("td_open") == 2
    assert [one.content for one in cells[:2] + cells[3:]] == ["a", "b", "end"]
    shown = text_of(cells[2:3])
    assert not LINK.search(shown)
    kept = text if len(text) <= CELL else f"{text[: CELL - 1]}…"
    assert plain(shown) == plain(kept)


def test_an_escaped_text_can_be_read_as_it_is() -> None:
    assert escaped("Dune, Book 2: 'Messiah' (1969) – 5/5!") == "Dune, Book 2: 'Messiah' (1969) – 5/5!"
    assert escaped("1. a_b") == r"1\. a\_b"
    assert escaped("-5") == r"\-5"


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("a" * 2500, 1000) == "a" * 1000 + "… (1,500 more characters)"
    assert quoted("one\n\n two", 5) == "> one\n>\n> … (4 more characters)"
    assert quoted(" \n", 5) == "> (empty)"


def test_cells_show_figures_short_and_bytes_by_their_number() -> None:
    assert [cell(value) for value in (0.123456, 5.0, 12, float("nan"), None, pd.NA, pd.NaT)] == [
        *("0.1235", "5", "12", "", "", "", "")
    ]
    assert cell(b"x" * 5000) == "5,000 bytes"
    assert cell("x" * 100) == "x" * (CELL - 1) + "…"


def test_the_first_rows_of_a_table_and_how_many_more() -> None:
    rows = pd.DataFrame({"round": [0, 1], "mae": [0.5, None]})
    assert first_rows(rows, 2) == "| round | mae |\n| --- | --- |\n| 0 | 0.5 |\n| 1 |  |"
    assert first_rows(rows, 1002).endswith("| 1 |  |\n\n… and 1,000 more rows")
    assert first_rows(rows.iloc[:0], 0) == "no rows"


WINDOWS = pd.DataFrame(
    [
        (user, window, place, f"T{window}{place}", 4.0)
        for user in "dcba"
        for window in (0, 1)
        for place in (1, 0)
    ],
    columns=["user_id", "window", "place", "title", "rating"],
).assign(domain="book")
PERSONAS = pd.DataFrame(
    {"domain": "book", "user_id": list("dcba"), "persona": ["D", "C", None, "A"], "note": None}
).assign(note=[None, None, "empty_answer", None])


def test_a_persona_stands_beside_the_ratings_it_was_written_from() -> None:
    text = preview("initial_personas", PERSONAS, 4, {"rating_windows": WINDOWS})
    ratings = "| window 0 | given |\n| --- | --- |\n| T00 | 4 |\n| T01 | 4 |"
    heading = "**persona S0, written from window 0**"
    assert text == "\n\n".join(
        [
            *("### user a", heading, "> A", ratings),
            *("### user b", heading, r"> (none: empty\_answer)", ratings),
            *("### user c", heading, "> C", ratings),
            "… and 1 more users",
        ]
    )


def test_predictions_stand_beside_what_was_given() -> None:
    predictions = pd.DataFrame(
        {
            "domain": "book",
            "user_id": "a",
            "window": [0, 1, 1],
            "place": [0, 0, 1],
            "predicted": [1, 3.5, None],
        }
    )
    frames = {"rating_windows": WINDOWS, "initial_personas": PERSONAS}
    text = preview("initial_predictions", predictions, 3, frames)
    items = "| window 1 | predicted | given |\n| --- | --- | --- |\n| T10 | 3.5 | 4 |\n| T11 |  | 4 |"
    assert text == f"### user a\n\n**persona S0**\n\n> A\n\n{items}"


def test_what_the_inputs_do_not_know_is_said_or_left_out() -> None:
    rows = pd.DataFrame({"domain": "book", "user_id": ["z"], "window": 1, "place": 0, "predicted": 3.0})
    persona = r"> (none: initial\_personas has no such row)"
    for frames in ({}, {"initial_personas": PERSONAS, "rating_windows": WINDOWS}):
        text = preview("initial_predictions", rows, 1, frames)
        assert text == f"### user z\n\n**persona S0**\n\n{persona}"


def test_of_an_evaluation_the_first_and_the_last_persona_are_shown_and_what_the_last_predicts() -> None:
    rounds = pd.DataFrame(
        {"domain": "book", "user_id": "a", "round": [2, 0, 1], "persona": ["S2!", "S0!", "S1!"], "note": None}
    )
    assert preview("persona_rounds", rounds, 3, {}) == (
        "### user a\n\n**persona S0**\n\n> S0!\n\n**persona S2**\n\n> S2!"
    )
    predictions = pd.DataFrame(
        {"domain": "book", "user_id": "a", "round": [0, 0], "window": 1, "place": [0, 1], "predicted": [5, 2]}
    )
    text = preview("round_predictions", predictions, 2, {"rating_windows": WINDOWS, "persona_rounds": rounds})
    items = "| window 1 | predicted | given |\n| --- | --- | --- |\n| T10 | 5 | 4 |\n| T11 | 2 | 4 |"
    assert text == f"### user a\n\n**persona S0**\n\n> S0!\n\n{items}"


def test_what_stands_in_the_personas_place_stands_above_what_is_predicted_from_it() -> None:
    predictions = pd.DataFrame(
        {"domain": "book", "user_id": "a", "round": 0, "window": 1, "place": [0], "predicted": [5]}
    )
    frames = {
        "rating_windows": WINDOWS,
        "persona_rounds": pd.DataFrame({"user_id": ["b"], "round": 0, "persona": "of b", "note": None}),
    }

    def shown(control: str, persona_of: str | None) -> str:
        rows = predictions.assign(control=control, persona_of=persona_of)
        return preview("control_predictions", rows, 1, frames).split("\n\n")[2]

    assert shown("control_shuffled", "b") == "> of user b: of b"
    assert shown("control_history", None) == "> the user's ratings of all windows so far, as they are"


def test_candidates_stand_below_the_persona_that_they_refine() -> None:
    contexts = pd.DataFrame(
        {"domain": "book", "template": ["inc_update", "refinement"], "user_id": "a", "round": 1}
    ).assign(persona=["other", "old"], note=None)
    candidates = pd.DataFrame(
        {
            "domain": "book",
            "template": ["refinement"] * 3 + ["inc_update"],
            "user_id": "a",
            "round": 1,
            "candidate": [0, 1, 4, 0],
            "persona": ["new", "", "third", "another"],
            "copies": [2, 1, 1, 1],
            "unusable": [None, "empty", None, None],
        }
    )
    assert preview("candidates_1", candidates, 4, {"contexts_1": contexts}) == "\n\n".join(
        [
            *("### user a", "**old persona S0**", "> old", "**candidate 0 of 3, 2 times**", "> new"),
            *("**candidate 1 of 3, unusable: empty**", "> (empty)"),
        ]
    )


def test_pairs_are_of_users_who_may_have_one_id_in_two_domains() -> None:
    pairs = pd.DataFrame(
        {
            "domain": ["recipe", "book"],
            "user_id": "a",
            "chosen": ["up", "Up"],
            "rejected": ["down", "Down"],
            "reward_chosen": [0.5, 0.25],
            "reward_rejected": [0.0, -0.125],
        }
    )
    assert preview("preference_pairs_2", pairs, 2, {}) == "\n\n".join(
        [
            *(
                "### user a of book",
                "**chosen, reward 0.25**",
                "> Up",
                "**rejected, reward -0.12**",
                "> Down",
            ),
            *(
                "### user a of recipe",
                "**chosen, reward 0.50**",
                "> up",
                "**rejected, reward 0.00**",
                "> down",
            ),
        ]
    )


def test_a_preview_is_small_however_long_the_texts_are() -> None:
    long = PERSONAS.assign(persona="word " * 100_000)
    text = preview("initial_personas", long, 4, {"rating_windows": WINDOWS.assign(title="T" * 10_000)})
    assert len(text) < PREVIEW + 1500
    assert text.count("more characters)") == 3


def test_tables_that_nobody_is_in_have_no_rows() -> None:
    for name in ("initial_personas", "candidates_1", "round_predictions"):
        assert preview(name, PERSONAS.iloc[:0], 0, {}) == "no rows"


def test_a_persona_of_a_set_stands_above_the_events_that_its_latest_memories_rest_on() -> None:
    frames = {
        **{"persona_memories": induced.MEMBERS, "memories": induced.MEMORIES},
        **{"memory_events": induced.EVIDENCE, "events": induced.EVENTS},
    }
    text = preview("persona_sets", induced.SETS, 3, frames)
    assert text.split("\n\n") == [
        "### user u",
        "**persona 0 after window 1, changed: dragons; 75% of what was read of this person, 25% of what was"
        " read of others; p = 0.001; 3 memories in 2 sessions**",
        r"> Was after \<b\>dragons\</b\>.",
        r"**persona 2 after window 1, ended: no words (no\_json); 10% of what was read of this person, 10% of"
        " what was read of others; p = 0.5; 2 memories in 2 sessions**",
        r"> no words (no\_json)",
        "\n".join(
            [
                *("| persona | session | memory | event | from |", "| --- | --- | --- | --- | --- |"),
                r"| 0 | 1 | dragons | Smaug \<i\> | log.csv:9 |",
                "| 0 | 1 | dragons | Fafnir | log.csv:11 |",
                "| 0 | 1 | more dragons | Glaurung |  |",
            ]
        ),
    ]
    nowhere = frames | {"events": induced.EVENTS.assign(file=None)}
    assert "| persona | session | memory | event |\n" in preview("persona_sets", induced.SETS, 3, nowhere)
    often = pd.concat([induced.EVIDENCE.assign(event=number) for number in range(99)])
    events = pd.concat([induced.EVENTS.assign(event=number) for number in range(99)])
    many = {**frames, "memory_events": often, "events": events.drop_duplicates(["session", "event"])}
    assert preview("persona_sets", induced.SETS, 3, many).count("\n| 0 | 1 |") == EVENTS
    assert preview("persona_sets", induced.SETS, 3, {}) == text.rpartition("\n\n")[0]
    unmeasured = induced.SETS.assign(label=None, description=None, note=None, share=None, chance=None)
    alone = preview("persona_sets", unmeasured[unmeasured["persona"] == 0], 2, {})
    assert "changed: no words (not asked for); 3 memories in 2 sessions**" in alone


def test_settings_are_a_table_of_their_parts() -> None:
    settings = {
        "chat": {"model": "m|1", "prompts": {"a": "1f"}},
        "domains": ["book", "recipe"],
        "writing": None,
    }
    assert settings_table(settings).splitlines() == [
        *("| setting | value |", "| --- | --- |", r"| chat.model | m\|1 |", "| chat.prompts.a | 1f |"),
        *("| domains | book, recipe |", "| writing |  |"),
    ]
    assert settings_table({}) == "no settings"
    assert settings_table({"hardware": {}}).splitlines()[2:] == ["| hardware |  |"]
    assert settings_table({"steps": [{"a": 1}, 2]}).splitlines()[2:] == [
        "| steps.0.a | 1 |",
        "| steps.1 | 2 |",
    ]
    many = settings_table({f"s{number}": number for number in range(SETTINGS + 2)})
    assert many.endswith("… and 2 more settings")


def test_links_lead_to_the_pages_of_partitions() -> None:
    inputs = [
        ("round_errors", "recipe|deeper"),
        ("floors_table", None),
        ("round_errors", "o'b [x](y)|deeper"),
    ]
    assert made_from(inputs).splitlines() == [
        r"- round\_errors: [o'b \[x\](y)\|deeper]"
        "(/assets/round_errors?view=partitions&partition=o%27b%20%5Bx%5D%28y%29%7Cdeeper),"
        r" [recipe\|deeper](/assets/round_errors?view=partitions&partition=recipe%7Cdeeper)",
        r"- [floors\_table](/assets/floors_table)",
    ]
    assert made_from([]) == "no table"
    many = made_from([("round_errors", f"d{number}|m") for number in range(80)])
    assert many.count("](") == LINKS
    assert many.endswith(" and 75 more")
