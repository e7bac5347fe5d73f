import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.engines.offline.language import (
    HABIT_SENTENCES,
    HABITS,
    LEADS,
    OPENINGS,
    REASONS,
    SHIFT,
    TEXTURES,
    VERDICTS,
    Reading,
    habit_sentence,
    read,
    render,
    taste_sentence,
)
from deeper_assets.engines.offline.themes import find_kind, kinds, themes, themes_of, title_words, words_of
from deeper_assets.method.domains import PAPER_DOMAINS
from deeper_assets.sources.themes import CATALOGUES

PHRASES = [*themes(), "anything with lavender", "anything with trains"]
HABIT_PHRASES = [phrase for named in HABITS.values() for phrase in named]


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    named = draw(st.lists(st.sampled_from(PHRASES), unique=True, max_size=8))
    degrees = {phrase: draw(st.sampled_from([2, 1, 0, -1, -2])) for phrase in named}
    return Reading(degrees, draw(st.none() | st.sampled_from(HABIT_PHRASES)))


@given(readings(), st.sampled_from([kind.person for kind in kinds()]), st.integers(0, 2**32))
def test_what_a_persona_says_is_what_is_read(reading: Reading, person: str, seed: int) -> None:
    persona = render(reading, person, seed)
    assert read(persona) == reading
    assert list(read(persona).degrees) == list(reading.degrees)
    assert read(persona.upper().replace(" ", "\n  ", 3)) == reading
    assert not re.search(r"\d|\$", persona)
    assert not re.search(r"\b(\w+) \1\b", persona)
    # An opening, a sentence a taste, and one to five others: why, temperament, habit.
    assert 2 <= persona.count(". ") + 1 - len(reading.degrees) <= 6


def test_there_are_nine_levels_each_with_its_own_phrases() -> None:
    assert list(HABITS) == [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]
    assert len(set(HABIT_PHRASES)) == len(HABIT_PHRASES)
    for level, phrases in HABITS.items():
        for phrase in phrases:
            assert read(f"Loves crime. {habit_sentence(phrase, 'reader')}").level == level


@pytest.mark.parametrize("degree", SHIFT)
def test_a_theme_has_one_sentence_that_begins_alike_for_every_degree(degree: int) -> None:
    said = {taste_sentence("garlic", degree, seed) for seed in range(100)}
    ways = {lead.replace("$theme", "garlic") + verdict for lead in LEADS for verdict in VERDICTS[degree]}
    assert said == ways
    assert len(ways) == 3 * 2
    for sentence in said:
        assert read(sentence.replace("garlic", "fragrant leaf teas")).degrees == {
            "fragrant leaf teas": degree
        }


def test_a_degree_is_worth_more_the_stronger_it_is_and_dislikes_most() -> None:
    assert SHIFT == {2: 0.2, 1: 0.1, 0: 0, -1: -0.15, -2: -0.35}
    assert list(VERDICTS) == list(SHIFT)


def test_nothing_else_in_the_language_says_a_taste_or_a_habit() -> None:
    neutral = [*TEXTURES, *OPENINGS, *HABIT_SENTENCES]
    neutral += [pattern.replace("$why", theme.why) for pattern in REASONS for theme in themes().values()]
    neutral += [lead.replace("$theme", "fragrant leaf teas") + "." for lead in LEADS]
    for sentence in neutral:
        assert read(sentence.replace("$person", "reader").replace("$habit", "judges")) == Reading(), sentence


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
        "She really loves coconut, and she enjoys Hearty soups and stews. He does not like olives; never "
        "avoids anchovies. Desserts disappoint her; he can’t stand cumin and doesn't enjoy kale. The weather "
        "is nice today. With mustard, nothing stands out."
    )
    assert reading.degrees == {
        "anything with coconut": 2,
        "anything with anchovies": 2,
        "hearty soups and stews": 1,
        "anything with olives": -1,
        "anything with desserts": -2,
        "anything with cumin": -2,
        "anything with kale": -1,
        "anything with mustard": 0,
    }


def test_what_is_said_last_counts() -> None:
    persona = "This reader loves fragrant leaf teas. Patience runs short with fragrant leaf teas."
    assert read(persona).degrees == {"fragrant leaf teas": -2}
    twice = " ".join(habit_sentence(HABITS[level][0], "reader") for level in (1.0, 0.25))
    assert read(twice).level == 0.25


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert len(read(text).degrees) <= 40


# --------------------------------------------------------------------------------- themes


def test_every_paper_domain_has_a_kind_and_every_phrase_is_its_own() -> None:
    for domain in PAPER_DOMAINS:
        kind = find_kind(f"rated every {domain.item_type} below")
        assert domain.item_type in kind.item_types
        assert 8 <= len(kind.themes) <= 20
    assert len(themes()) == sum(len(kind.themes) for kind in kinds())
    assert not any(
        re.search(r"\d", theme.phrase + theme.why) or "," in theme.phrase for theme in themes().values()
    )


def test_the_lexicon_knows_most_words_of_generated_titles_and_not_all() -> None:
    """Written apart: were it made for the generator, it would know every word."""
    shares = {}
    for domain in PAPER_DOMAINS:
        known = frozenset().union(*(theme.words for theme in find_kind(domain.item_type).themes))
        generated = [word for words in CATALOGUES[domain.name].themes.values() for word in words]
        heard = [word for word in generated if not known.isdisjoint(title_words(word))]
        shares[domain.name] = len(heard) / len(generated)
    said = f"known: {sum(shares.values()) / len(shares):.3f} on average; {shares}"
    assert all(0.6 <= share <= 0.98 for share in shares.values()), said
    assert 0.8 <= sum(shares.values()) / len(shares) <= 0.92, said


def test_no_theme_of_the_lexicon_is_a_theme_of_the_generator() -> None:
    """Of ten frequent words of a theme, a list of 27 on the same may have all; it seldom does."""
    held = []
    for domain in PAPER_DOMAINS:
        for name, words in CATALOGUES[domain.name].themes.items():
            for theme in find_kind(domain.item_type).themes:
                generated = [title_words(word) for word in words]
                assert theme.words != frozenset().union(*generated)
                if not any(theme.words.isdisjoint(word) for word in generated):
                    held.append((domain.name, name, theme.phrase))
                    assert len(theme.words) >= 2 * len(words)
    assert len(held) < 80 / 5, held


@pytest.mark.parametrize(
    ("item_type", "title", "expected"),
    [
        ("recipe", "beef stew", ["hearty soups and stews", "roasts and grilled meats"]),
        ("recipe", "vanilla ice cream", ["chilled desserts and candies"]),
        ("film", "Heat (1995)", ["eighties and nineties hits"]),
        ("film", "Heat 1995", []),
        (
            "local business",
            "Bella's Pizza, 22 Lake St, Albany, NY 12203",
            ["pizzerias and Mediterranean tables"],
        ),
        (
            "craft supply",
            "Dritz Seam Rippers &amp; Fabric Pen",
            ["sewing and quilting materials", "pens and drawing tools"],
        ),
        ("recipe", "garlic 2000 delight", ["anything with garlic"]),
        ("recipe", "garlic beef", ["roasts and grilled meats"]),
        ("recipe", "XQ-77 KTCHN", []),
    ],
)
def test_titles_signal_themes(item_type: str, title: str, expected: list[str]) -> None:
    assert themes_of([title], find_kind(item_type)) == [expected]


def test_a_kind_nobody_foresaw_gets_the_words_its_titles_share() -> None:
    titles = ["Trains of 1910 (2nd Edition)", "Big trains", "ACME ACME edition", "Robots"]
    with_trains = ["anything with trains"]
    assert themes_of(titles, find_kind("a board game")) == [with_trains, with_trains, [], []]


def test_no_theme_quotes_a_title() -> None:
    book, told = find_kind("book"), "picture books and bedtime tales"
    assert told in themes()
    assert themes_of(["My Bunny"], book) == [[told]]
    assert themes_of(["My Bunny", "Bedtime Tales"], book) == [[], []]


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
