import json
import random
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeper_assets.method.domains import FIVE_STARS, HALF_STARS, Scale
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.json_pieces import LONGEST_ANSWER
from deeper_assets.method.parsing import REASONS, parse_persona, parse_ratings
from deeper_assets.method.placing import PlacedRatings
from deeper_assets.method.prompts import one_line
from deeper_assets.method.titles import normal
from deeper_assets_tests.growth import LINEAR, TIMES, growth

TITLES = ["Heat (1995)", "Tom &amp; Jerry", "“Up”"]
OBJECTS = [
    {"item": "Heat (1995)", "rating": 4},
    {"item": "Tom & Jerry", "rating": 2.5},
    {"item": '"up"', "rating": "5"},
]


def ratings_in(answer: str, titles: list[str], scale: Scale = FIVE_STARS) -> tuple[float, ...]:
    return parse_ratings(answer, titles, scale).ratings


def reason(answer: str | None, titles: list[str], scale: Scale = FIVE_STARS) -> str:
    with pytest.raises(UnreadableAnswer) as failure:
        parse_ratings(answer, titles, scale)
    return str(failure.value)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS[::-1]),
        "Sure [as asked]! Here:\n```json\n" + json.dumps(OBJECTS, indent=2) + "\n```\nEnjoy {it}.",
        "\n".join(map(json.dumps, OBJECTS)),
        json.dumps({"predictions": OBJECTS, "note": "a guess"}),
        json.dumps({"result": {"predictions": OBJECTS}}),
        "[4, 2.5, 5]",
        '["4", " 2.5 ", "5.0"]',
        '[["Tom & Jerry", 2.5], ["UP", 5], ["heat  (1995)", 4]]',
        '{"“Up”": 5, "Heat (1995)": "4", "tom &amp; jerry": 2.5}',
        '[{"Title": "\'Up\'", "Predicted Rating": 5}, {"NAME": "Heat (1995)", "Score": 4}, '
        '{"predicted": 2.5, "film": "Tom & Jerry"}]',
        "Items [1] to [3], first guess [1, 1, 1], final answer: [4, 2.5, 5].",
        json.dumps(OBJECTS) + " as in notes [1, 2, 3]",
        '[{"item": "Heat", "rating": 4}, {"item": "Up", "rating": 5}, ["Tom &amp; Jerry", 2.5]]',
    ],
)
def test_every_accepted_form_is_read(answer: str) -> None:
    assert ratings_in(answer, TITLES) == (4, 2.5, 5)


def test_repeated_titles_are_filled_in_order_of_appearance() -> None:
    assert ratings_in('{"Up": 1, "Big": 2, "up": 3}', ["Up", "Up", "Big"]) == (1, 3, 2)
    assert ratings_in('{"Up": 1, "Big": 2, "Up": 3}', ["Up", "Up", "Big"]) == (1, 3, 2)


def test_one_title_alone() -> None:
    assert ratings_in('{"item": "Up", "rating": 3}', ["Up"]) == (3,)
    assert ratings_in('{"rating": 3}', ["Up"]) == (3,)
    assert ratings_in('{"Score": 3}', ["Score"]) == (3,)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "no_answer"),
        (" \n", "no_answer"),
        ("I would rate them all highly.", "no_json"),
        ("[4, 5", "no_json"),
        ("[" * 100_000, "no_json"),
        ('{"a":' * 30_000, "no_json"),
        ("[" * 200_001, "too_long"),
        ("[4]", "wrong_count"),
        ("[4, 5, 3]", "wrong_count"),
        ("{}", "wrong_count"),
        ("[4, null]", "not_a_number"),
        ("[4, true]", "not_a_number"),
        ("[4, NaN]", "not_a_number"),
        ("[4, Infinity]", "not_a_number"),
        ('[4, "four"]', "not_a_number"),
        ('[4, "4/5"]', "not_a_number"),
        ('[4, "٣"]', "not_a_number"),
        ("[4, " + "9" * 5000 + "]", "not_a_number"),
        ('[{"item": "Up", "rating": 3}, {"item": "Big"}]', "not_a_number"),
        ("[4, [[[5]]]]", "not_a_number"),
        ("[4, 5.01]", "outside_scale"),
        ("[0, 4]", "outside_scale"),
        ("[4, -4]", "outside_scale"),
        ("[4, 1e300]", "outside_scale"),
        ('[{"item": "Up", "rating": 3}, {"rating": 2}]', "misplaced"),
        ('{"Up": 3, "Upp": 2}', "misplaced"),
        ('{"Up": 3, "Big": 2} {"Up": 3, "Big": 1}', "contradictory"),
        ("I cannot choose from [1, 2].", "only_counts"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_no_rating(answer: str | None, expected: str) -> None:
    assert reason(answer, ["Up", "Big"]) == expected
    assert expected in REASONS


def test_the_scale_is_the_domains() -> None:
    assert ratings_in("[0.5]", ["Up"], HALF_STARS) == (0.5,)
    assert ratings_in("My rating is [1].", ["Up"]) == (1,)
    assert reason("[0.5]", ["Up"]) == "outside_scale"


NAMES = st.text(st.characters(exclude_categories=()), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | NAMES | st.sampled_from(["item", "rating"]),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.sampled_from(["item", "rating"]), inner),
    max_leaves=12,
)


@given(st.text(st.characters(exclude_categories=())) | JSON.map(json.dumps), st.lists(NAMES, max_size=3))
@settings(max_examples=400)
@example("[\ud800]", ["\ud800"])
@example('{"a": {"a": {"a": {"a": {"a": [1]}}}}}', ["x"])
def test_no_answer_whatsoever_raises_anything_else(answer: str, titles: list[str]) -> None:
    for read in (lambda: parse_ratings(answer, titles, FIVE_STARS), lambda: parse_persona(answer)):
        try:
            read()
        except UnreadableAnswer as unreadable:
            assert str(unreadable) in REASONS


@pytest.mark.parametrize(
    "hostile",
    [
        "[",
        "{",
        "[1,",
        '{"a":',
        "```",
        "``` ",
        "<persona>",
        "<",
        '"',
        "\\",
        "here is the ",
        "*_ ",
        "new ",
        "&#",
    ],
)
def test_hostile_answers_take_no_more_than_their_length(hostile: str) -> None:
    def read_all(answer: str) -> None:
        for read in (lambda: parse_ratings(answer, ["Up"], FIVE_STARS), lambda: parse_persona(answer)):
            try:
                read()
            except UnreadableAnswer as unreadable:
                assert str(unreadable) in REASONS

    assert growth(read_all, lambda length: (hostile * length)[:length], LONGEST_ANSWER // TIMES - 1) < LINEAR


@given(st.data())
@settings(deadline=None)
def test_known_ratings_come_back_from_any_form_and_order(data: st.DataObject) -> None:
    letters = st.text("abc &<>\"'é“\n;1", min_size=1, max_size=6).filter(lambda name: name.strip("\"'“ \n"))
    # Two spellings of one title can be told apart only by names that are spelled alike.
    titles = data.draw(st.lists(letters, min_size=1, max_size=8, unique_by=normal))
    titles += data.draw(st.lists(st.sampled_from(titles), max_size=2))
    ratings = data.draw(st.lists(st.sampled_from([1, 2.5, 4, 5]), min_size=len(titles), max_size=len(titles)))
    pairs = list(zip(titles, ratings, strict=True))
    # So does nothing but their order tell the ratings of a repeated title apart.
    if len(set(titles)) == len(titles):
        random.Random(data.draw(st.integers(0, 99))).shuffle(pairs)
    forms = {
        "objects": [{"item": title, "rating": rating} for title, rating in pairs],
        "capitals": [{"Name": title.upper(), "SCORE": str(rating)} for title, rating in pairs],
        "pairs": [list(pair) for pair in pairs],
        "the paper's": [{"item_name": title, "predict_rating": rating} for title, rating in pairs],
        "wrapped": {"predictions": [{"title": title, "predicted_rating": rating} for title, rating in pairs]},
    }
    for value in forms.values():
        answer = json.dumps(value)
        for text in (answer, f"Here you are:\n```json\n{answer}\n```\nDone."):
            read = parse_ratings(text, titles, FIVE_STARS)
            assert read == PlacedRatings(tuple(ratings), ("name",) * len(titles))
    unnamed = json.dumps({"ratings": ratings})
    read = parse_ratings(unnamed, titles, FIVE_STARS)
    assert read == PlacedRatings(tuple(ratings), ("position",) * len(titles))


NASTY = tomllib.loads(Path(__file__).with_name("nasty_answers.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", NASTY["case"].values(), ids=NASTY["case"])
def test_a_nasty_answer_is_read_rightly_or_refused(case: Mapping[str, Any]) -> None:
    titles, scale = (
        NASTY["titles"][case["titles"]],
        {"half_stars": HALF_STARS}.get(case.get("scale", ""), FIVE_STARS),
    )
    if "reason" in case:
        assert reason(case["answer"], titles, scale) == case["reason"]
        return
    placed = case["placed"] if isinstance(case["placed"], list) else [case["placed"]] * len(titles)
    read = parse_ratings(case["answer"], titles, scale)
    assert (list(read.ratings), list(read.placed)) == (case["ratings"], placed)


ALIKE = [
    *("Saw", "Saw 2", "Saw 3", "Saw II", "Saw (2004)", "Saw (2)", "2. Saw", "1. 2. Saw", "1. Saw", "saw"),
    *(
        "Rocky",
        "Rocky II",
        "Rocky III",
        "Rocky: The Beginning",
        "Rocky, The (1976)",
        "12 Angry Men",
        "1",
        "2",
        "3",
    ),
    *(
        "1984",
        "2001: A Space Odyssey",
        "22/11/63",
        "11/22/63",
        "Tom &amp; Jerry",
        "Tom & Jerry",
        "Tom and Jerry",
    ),
    *("Emma", "EMMA", "“Emma”", "Emma...", "Item 1", "Item 2", "Plan A", "Plan B", "Plan", "The Plan"),
    *("Books 1, 2 & 3", "Book 1", "Books 1-5 (Book 1 Free)", "Gel Pen, Red", "Gel Pen, Blue", "Gel Pen"),
    *(
        "哈利波特1",
        "哈利波特2",
        "Amélie",
        "Amelie",
        "???",
        "!!!",
        "C",
        "C++",
        "rating",
        "item",
        "<b>",
        "[4, 5]",
    ),
    *("Dog Bites Man", "Man Bites Dog", "Kill Bill: Volume One", "Kill Bill: Volume Two", "Cars", "Cats"),
]
"""Titles that are parts of others, or differ in a number, in case, in marks, in order alone."""

SHORTENED = {title: title.split(":")[0].split(" (")[0].split(",")[0] for title in ALIKE}


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[str], str]:
    """Titles, and an answer whose lines are mixed up: the rating of the title at place i is 100 + i."""
    titles = draw(st.lists(st.sampled_from(ALIKE), min_size=1, max_size=8))
    spelled = {
        "as it is": lambda title: title,
        "capitals": str.upper,
        "flat": one_line,
        "shortened": SHORTENED.__getitem__,
        "padded": lambda title: f" “{title}” ",
    }
    styles = [draw(st.sampled_from(sorted(spelled))) for _ in titles]
    kept = draw(st.permutations(range(len(titles))))
    what = draw(st.sampled_from(["permute", "drop", "repeat", "replace"]))
    if what == "drop":
        kept = kept[1:]
    elif what == "repeat":
        kept = [*kept, kept[0]]
    elif what == "replace":
        kept = [*kept[1:], kept[-1]]
    numbers = draw(
        st.sampled_from([range(len(kept)), range(1, len(kept) + 1), draw(st.permutations(range(9)))])
    )
    number = draw(st.sampled_from(["{name}", "{number}. {name}", "{name} ({number})", "#{number}: {name}"]))
    named = [
        (number.format(name=spelled[styles[i]](titles[i]), number=numbers[at % len(numbers)]), 100 + i)
        for at, i in enumerate(kept)
    ]
    # Who spells one title exactly as another is called means the other, as far as anybody can tell.
    others = {i: {normal(title) for title in titles} - {normal(titles[i])} for i in kept}
    if any(normal(name) in others[mark - 100] for name, mark in named):
        named = [(titles[i], 100 + i) for i in kept]
    value = draw(
        st.sampled_from(
            [
                [{"item": name, "rating": rating} for name, rating in named],
                [
                    {"index": at, "title": name, "rating": rating}
                    for at, (name, rating) in enumerate(named, 1)
                ],
                [list(pair) for pair in named],
                [{name: rating} for name, rating in named],
            ]
        )
    )
    return titles, json.dumps(value)


@given(answers())
@settings(max_examples=1000, deadline=None)
def test_no_mixed_up_line_gives_its_rating_to_another_item(answer: tuple[list[str], str]) -> None:
    titles, text = answer
    try:
        read = parse_ratings(text, titles, Scale(0, 1000, 1))
    except UnreadableAnswer:
        return
    # Of a title that stands there several times, the first rating may be the second one's.
    assert [titles[int(rating) - 100] for rating in read.ratings] == titles


@given(st.data())
@settings(deadline=None)
def test_numbers_without_names_are_read_in_their_order_or_not_at_all(data: st.DataObject) -> None:
    titles = ["Alien", "Brazil", "Casino", "Dune"]
    ratings = data.draw(st.lists(st.sampled_from([1, 2, 4, 5]), min_size=4, max_size=4))
    first = data.draw(st.sampled_from([0, 1]))
    form = data.draw(st.sampled_from(["{}", "item {}", "#{}", "Movie_{}"]))
    lines = [(form.format(at), rating) for at, rating in enumerate(ratings, first)]
    mixed = data.draw(st.permutations(lines))
    dropped = mixed[: data.draw(st.integers(0, 4))]
    for kept in (mixed, dropped, [*mixed, mixed[0]]):
        answer = json.dumps([{"item": name, "rating": rating} for name, rating in kept])
        if kept == lines and sorted(ratings) != [1, 2, 3, 4]:
            assert parse_ratings(answer, titles, FIVE_STARS) == PlacedRatings(
                tuple(ratings), ("position",) * 4
            )
        else:
            assert reason(answer, titles) in ("misplaced", "wrong_count")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Heat", "Heat (1995)"),
        ("The Matrix", "Matrix, The (1999)"),
        ("Amelie (2001)", "Amélie (Fabuleux destin d'Amélie Poulain, Le) (2001)"),
        ("Hanes Men's Cotton T-Shirt", "Hanes Men's Cotton T-Shirt in Red, Pack of 12"),
        ("IL Caldo Women's Straw Su...", "IL Caldo Women's Straw Summer Hat Shading Ventilation"),
        ("The Shawshenk Redemtion", "The Shawshank Redemption (1994)"),
        ("Spiderman 2", "Spider-Man 2"),
        ("Ocean's 11", "Oceans Eleven"),
    ],
)
def test_a_name_is_corrected_where_it_means_one_title(name: str, title: str) -> None:
    answer = json.dumps({"Up": 1, name: 4})
    assert parse_ratings(answer, [title, "Up"], FIVE_STARS) == PlacedRatings((4, 1), ("correction", "name"))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Saw", "Saw 2"),
        ("Saw 3", "Saw 2"),
        ("Saw III", "Saw II"),
        ("Saw", "Saw (2)"),
        ("Dune (2021)", "Dune (1984)"),
        ("Kill Bill: Volume Two", "Kill Bill: Volume One"),
        ("Gel Pen, Fine Point, Blue", "Gel Pen, Fine Point, Red"),
        ("Plan B", "Plan A"),
        ("Cats", "Cars"),
        ("Le Parrain", "Godfather, The (1972)"),
        ("Heat, a film", "Heat (1995)"),
        ("22/11/63", "11/22/63"),
        ("哈利波特2", "哈利波特1"),
        ("!!!", "???"),
    ],
)
def test_a_name_is_not_corrected_to_what_may_be_another_item(name: str, title: str) -> None:
    assert reason(json.dumps({"Up": 1, name: 4}), [title, "Up"]) == "misplaced"


@pytest.mark.parametrize("words", [5, 30, 1_000])
def test_hostile_names_take_no_more_than_their_length(words: int) -> None:
    titles = [" ".join(f"word{chr(97 + (i * j) % 26)}ing" for i in range(60)) + f" {j}x" for j in range(20)]

    def answer(words: int) -> str:
        names = [" ".join(f"wird{chr(97 + (i + j) % 26)}inq" for i in range(words)) for j in range(20)]
        return json.dumps(dict.fromkeys(names, 4))

    assert reason(answer(words), titles) in REASONS
    assert growth(lambda given: reason(given, titles), answer, words) < LINEAR


PERSONA = 'This reader enjoys "cosy" crime.\nLong books do not scare them: none does.'


@pytest.mark.parametrize(
    "answer",
    [
        PERSONA,
        f"  {PERSONA}\n\n",
        f"```\n{PERSONA}\n```",
        f"Here is the refined persona:\n\n```text\n{PERSONA}\n```",
        f'"{PERSONA}"',
        f"Persona: {PERSONA}",
        f"**Refined persona:** {PERSONA}",
        f"## Persona\n\n{PERSONA}",
        f"Sure! Here's the updated user profile:\n{PERSONA}",
        f"Certainly. <persona>\n{PERSONA}\n</persona>",
        f"<persona>\n<persona>{PERSONA}</persona>",
        f"{PERSONA}</persona>",
        f"{PERSONA}\n</long_term_persona></persona>\n",
        f"</persona>\n{PERSONA} <persona>",
        f"Persona: “{PERSONA}”",
        f"Rewritten description: {PERSONA}",
        f"Here's the rewritten description that better predicts this person's ratings:\n\n{PERSONA}",
        f"Based on the differences, here is the refined description:\n{PERSONA}",
        f"**The refined description is as follows:**\n{PERSONA}",
        PERSONA.replace("enjoys", "\x00enjoys\x07").replace("\x00", "").replace("\x07", ""),
    ],
)
def test_a_persona_is_freed_of_its_wrapping(answer: str) -> None:
    assert parse_persona(answer) == PERSONA


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "no_answer"),
        ("", "no_answer"),
        ("Persona:\n", "no_persona"),
        ("``` ```", "no_persona"),
        ('"..."', "no_persona"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I’m sorry, but I cannot assist with that request.", "refusal"),
        ("As an AI, I have no access to personal data.", "refusal"),
        ("I cannot write this description.", "refusal"),
        ("Likes crime.</persona> And tea.", "echo"),
        ("<persona>Likes crime. <short_term_persona> And tea.</persona>", "echo"),
        ("</persona>" * 20_000, "no_persona"),
        ("I'm ready to help you edit your text. Please go ahead and share it with me.", "refusal"),
        ("I'd be happy to help! Please provide the description.", "refusal"),
        ("Please share the description that I am to refine.", "refusal"),
    ],
)
def test_no_persona_has_a_reason(answer: str | None, expected: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{expected}$"):
        parse_persona(answer)


def test_a_first_line_that_announces_nothing_stays() -> None:
    for persona in ("This profile says it all: no horror.\nNo war.", "Two likes:\ntea"):
        assert parse_persona(persona) == persona


def test_a_persona_that_only_begins_like_a_refusal_stays() -> None:
    assert parse_persona("I'm happy to help others, in books as in life.").startswith("I'm happy")
    assert parse_persona("I can't stand musicals. " + "I love westerns. " * 40).startswith("I can't stand")


def test_a_persona_can_be_stored_anywhere() -> None:
    assert parse_persona("Likes\x00 cats\ud800.\r\nAnd\tdogs.").encode() == b"Likes  cats .\nAnd dogs."
