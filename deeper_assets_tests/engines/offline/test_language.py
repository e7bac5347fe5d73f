import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.engines.offline.language import (
    HABIT_SENTENCES,
    HABITS,
    OPENING,
    REASONS,
    REMARKS,
    TASTES,
    TEXTURES,
    Reading,
    habit_sentence,
    read,
    render,
)
from deeper_assets.engines.offline.themes import find_kind, kinds, themes, themes_of, title_words, words_of
from deeper_assets.method.domains import PAPER_DOMAINS

PHRASES = [*themes(), "anything with lavender", "anything with trains"]
HABIT_PHRASES = [*(phrase for named in HABITS.values() for phrase in named), *REMARKS.values()]


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    named = draw(st.lists(st.sampled_from(PHRASES), unique=True, max_size=8))
    degrees = {phrase: draw(st.sampled_from([2, 1, -1, -2])) for phrase in named}
    return Reading.of(degrees, draw(st.none() | st.sampled_from(HABIT_PHRASES)))


@given(readings(), st.sampled_from([kind.person for kind in kinds()]), st.integers(0, 2**32))
def test_what_a_persona_says_is_what_is_read(reading: Reading, person: str, seed: int) -> None:
    persona = render(reading, person, seed)
    assert read(persona) == reading
    assert read(persona.upper().replace(" ", "\n  ", 3)).level == reading.level
    assert not re.search(r"\d|\$", persona)
    assert not re.search(r"\b(\w+) \1\b", persona)
    assert 4 <= persona.count(". ") + 1 <= 8


def test_there_are_nine_levels_each_with_its_own_phrases() -> None:
    assert list(HABITS) == [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]
    assert len(set(HABIT_PHRASES)) == len(HABIT_PHRASES)
    for level, phrases in HABITS.items():
        for phrase in phrases:
            assert read(f"Loves crime. {habit_sentence(phrase, 'reader')}").level == level


def test_nothing_else_in_the_language_says_a_taste_or_a_habit() -> None:
    neutral = [*TEXTURES, OPENING, *HABIT_SENTENCES]
    neutral += [pattern.replace("$why", theme.why) for pattern in REASONS for theme in themes().values()]
    for sentence in neutral:
        assert read(sentence.replace("$person", "reader").replace("$habit", "judges")) == Reading(), sentence


def test_every_degree_can_open_a_persona_and_follow_another() -> None:
    for patterns in TASTES.values():
        assert any("$person" in pattern for pattern in patterns)
        assert any(not pattern.startswith("This") for pattern in patterns)


@pytest.mark.parametrize(
    ("persona", "level"),
    [
        ("The user almost always gives five stars.", 1.0),
        ("She hands out perfect scores to nearly everything she buys.", 1.0),
        ("He usually gives top marks.", 0.875),
        ("They rate well but rarely award the highest rating, their marks show.", 0.75),
        ("A generous reviewer of most things.", 0.75),
        ("Gives ratings slightly above average.", 0.625),
        ("Tends to give moderate ratings.", 0.5),
        ("Their scores sit just below the middle.", 0.375),
        ("A harsh rater who is hard to please.", 0.25),
        ("Often gives the lowest marks.", 0.125),
        ("Gives the lowest score to almost everything.", 0.0),
        ("She adores high heels and films full of stars. Generous plates matter.", None),
        ("", None),
    ],
)
def test_other_peoples_words_for_a_habit_are_understood(persona: str, level: float | None) -> None:
    assert read(persona).level == level


def test_other_peoples_words_for_tastes_are_understood() -> None:
    reading = read(
        "She really loves coconut, and she enjoys Soups and slow-cooked pots. He does not like olives; never "
        "avoids anchovies. Desserts disappoint her; he can’t stand cumin and doesn't enjoy kale. The weather "
        "is nice today."
    )
    assert reading.degrees == {
        "anything with coconut": 2,
        "anything with anchovies": 2,
        "soups and slow-cooked pots": 1,
        "anything with olives": -1,
        "anything with desserts": -2,
        "anything with cumin": -2,
        "anything with kale": -1,
    }


def test_what_is_said_last_counts() -> None:
    assert read("This reader loves teas. Patience runs short with teas.").dislikes == ("teas",)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert len(read(text).degrees) <= 41


def test_every_paper_domain_has_a_kind_and_every_phrase_is_its_own() -> None:
    for domain in PAPER_DOMAINS:
        kind = find_kind(f"rated every {domain.item_type} below")
        assert domain.item_type in kind.item_types
        assert 8 <= len(kind.themes) <= 20
    assert len(themes()) == sum(len(kind.themes) for kind in kinds())
    assert not any(
        re.search(r"\d", theme.phrase + theme.why) or "," in theme.phrase for theme in themes().values()
    )


@pytest.mark.parametrize(
    ("item_type", "title", "expected"),
    [
        ("recipe", "creamy lemon chicken", ["chicken and turkey dishes", "cheesy comfort food"]),
        ("film", "Heat (1995)", ["films of the nineties"]),
        ("local business", "Bella's Pizza, 22 Lake St, Albany, NY 12203", ["pizza and Italian cooking"]),
        (
            "craft supply",
            "Dritz Seam Rippers &amp; Fabric Pen",
            ["sewing and quilting", "paints and brushes"],
        ),
        ("recipe", "garlic 2000 delight", ["anything with garlic"]),
        ("recipe", "XQ-77 KTCHN", []),
    ],
)
def test_titles_signal_themes(item_type: str, title: str, expected: list[str]) -> None:
    assert set(themes_of([title], find_kind(item_type))[0]) >= set(expected)
    assert expected or themes_of([title], find_kind(item_type)) == [[]]


def test_a_kind_nobody_foresaw_gets_the_words_its_titles_share() -> None:
    titles = ["Trains of 1910 (2nd Edition)", "Big trains", "ACME ACME edition", "Robots"]
    with_trains = ["anything with trains"]
    assert themes_of(titles, find_kind("a board game")) == [with_trains, with_trains, [], []]


def test_no_theme_quotes_a_title() -> None:
    titles = ["A Bride", "Love Stories"]
    assert themes_of(titles[:1], find_kind("book")) == [["love stories"]]
    assert themes_of(titles, find_kind("book")) == [[], ["true lives and memoirs"]]


def test_words_meet_in_singular_and_plural() -> None:
    for one, many in [
        ("potato", "potatoes"),
        ("cookie", "Cookies"),
        ("berry", "berries"),
        ("dress", "dresses"),
    ]:
        assert title_words(one) == title_words(many)
    assert not words_of("anything with anchovies").isdisjoint(title_words("Anchovy paste"))
    assert words_of("no such theme") == frozenset()
