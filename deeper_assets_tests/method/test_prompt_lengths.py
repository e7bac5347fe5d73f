"""Lengths of prompts, counted in words."""

import json

import pytest

from deeper_assets.method.domains import FIVE_STARS, Domain
from deeper_assets.method.prompt_lengths import PromptLengths
from deeper_assets.method.prompts import BUILT_IN, Prompts, RatedItem

DOMAIN = Domain("book", "book", FIVE_STARS, seen=True)
SHORT, LONG = [RatedItem("Emma", 4.0)], [RatedItem("War and Peace", 3.0), RatedItem("Ulysses", 2.0)]


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def lengths() -> PromptLengths:
    return PromptLengths(DOMAIN, Prompts(), [{0: SHORT, 1: LONG}, {0: SHORT}], words, frame=7)


def test_a_prompt_is_as_long_as_its_windows_make_it_on_average(lengths: PromptLengths) -> None:
    short, long = (words(Prompts().slide_regen(DOMAIN, window)) for window in (SHORT, LONG))
    assert long - short == 6 + 4 - 4  # "- War and Peace: rated 3", "- Ulysses: rated 2"; "- Emma: rated 4"
    assert lengths.prompt("slide_regen", 1) == 7 + (short + long + short) / 3
    assert lengths.prompt("merge_personas", 0) == 7 + words(Prompts().merge_personas(DOMAIN, "", ""))


def test_a_persona_adds_its_own_tokens(lengths: PromptLengths) -> None:
    alone = PromptLengths(DOMAIN, Prompts(), [{0: LONG}], words, frame=0)
    with_persona = words(Prompts().refinement(DOMAIN, "five words of a persona", LONG, [3, 2]))
    assert alone.prompt("refinement", 1) + 5 == with_persona


def test_full_regen_shows_the_first_windows(lengths: PromptLengths) -> None:
    two = words(Prompts().full_regen(DOMAIN, [SHORT, LONG]))
    one = words(Prompts().full_regen(DOMAIN, [SHORT]))
    assert lengths.prompt("full_regen", 2) == 7 + (two + one) / 2


def test_answers_and_their_schema_are_json() -> None:
    letters = PromptLengths(DOMAIN, Prompts(), [{0: SHORT}], len, frame=0)
    assert letters.ratings == len('{"ratings":[{"item":"Emma","rating":4}]}')
    halves = PromptLengths(DOMAIN, Prompts(), [{0: [RatedItem("Emma", 3.5)]}], len, frame=0)
    assert halves.ratings == len('{"ratings":[{"item":"Emma","rating":3.5}]}')
    assert letters.schema > len(json.dumps({"ratings": "array"}))


def test_every_template_can_be_counted(lengths: PromptLengths) -> None:
    assert all(lengths.prompt(name, 1) > 20 for name in BUILT_IN)


def test_nobody_has_no_length() -> None:
    nobody = PromptLengths(DOMAIN, Prompts(), [], words, frame=7)
    assert (nobody.prompt("prediction", 1), nobody.ratings) == (7, 0)
