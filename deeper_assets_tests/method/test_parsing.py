import json
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeper_assets.method.domains import FIVE_STARS, HALF_STARS
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.parsing import REASONS, parse_persona, parse_ratings

TITLES = ["Heat (1995)", "Tom &amp; Jerry", "“Up”"]
OBJECTS = [
    {"item": "Heat (1995)", "rating": 4},
    {"item": "Tom & Jerry", "rating": 2.5},
    {"item": '"up"', "rating": "5"},
]


def reason(answer: str | None, titles: list[str]) -> str:
    with pytest.raises(UnreadableAnswer) as failure:
        parse_ratings(answer, titles, FIVE_STARS)
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
        '{"predicted": 2.5}]',
        "Items [1] to [3], first guess [1, 1, 1], final answer: [4, 2.5, 5].",
        json.dumps(OBJECTS) + " as in notes [1, 2, 3]",
        '[{"item": "Heat, a film", "rating": 4}, {"item": "Up", "rating": 5}, ["Tom &amp; Jerry", 2.5]]',
    ],
)
def test_every_accepted_form_is_read(answer: str) -> None:
    assert parse_ratings(answer, TITLES, FIVE_STARS) == (4, 2.5, 5)


def test_repeated_titles_are_filled_in_order_of_appearance() -> None:
    assert parse_ratings('{"Up": 1, "Big": 2, "up": 3}', ["Up", "Up", "Big"], FIVE_STARS) == (1, 3, 2)
    assert parse_ratings('{"Up": 1, "Big": 2, "Up": 3}', ["Up", "Up", "Big"], FIVE_STARS) == (1, 3, 2)


def test_one_title_alone() -> None:
    assert parse_ratings('{"item": "Up", "rating": 3}', ["Up"], FIVE_STARS) == (3,)
    assert parse_ratings('{"rating": 3}', ["Up"], FIVE_STARS) == (3,)
    assert parse_ratings('{"Score": 3}', ["Score"], FIVE_STARS) == (3,)


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
    ],
)
def test_what_cannot_be_read_has_a_reason_and_no_rating(answer: str | None, expected: str) -> None:
    assert reason(answer, ["Up", "Big"]) == expected
    assert expected in REASONS


def test_the_scale_is_the_domains() -> None:
    assert parse_ratings("[0.5]", ["Up"], HALF_STARS) == (0.5,)
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
def test_hostile_answers_are_answered_quickly(hostile: str) -> None:
    answer = (hostile * 200_000)[:200_000]
    started = time.perf_counter()
    for read in (lambda: parse_ratings(answer, ["Up"], FIVE_STARS), lambda: parse_persona(answer)):
        try:
            read()
        except UnreadableAnswer as unreadable:
            assert str(unreadable) in REASONS
    assert time.perf_counter() - started < 3


@given(st.data())
def test_known_ratings_come_back_from_any_form_and_order(data: st.DataObject) -> None:
    letters = st.text("abc &<>\"'é“\n;1", min_size=1, max_size=6).filter(lambda name: name.strip("\"'“ \n"))
    titles = data.draw(st.lists(letters, min_size=1, max_size=8))
    ratings = data.draw(st.lists(st.sampled_from([1, 2.5, 4, 5]), min_size=len(titles), max_size=len(titles)))
    pairs = list(zip(titles, ratings, strict=True))
    # Spellings of one title keep their order, or nobody could tell them apart.
    order = list(range(len(pairs)))
    random.Random(data.draw(st.integers(0, 99))).shuffle(order)
    if len({"".join(title.split()).strip("\"'“").casefold() for title in titles}) < len(titles):
        order.sort()
    shuffled = [pairs[place] for place in order]
    forms = {
        "objects": [{"item": title, "rating": rating} for title, rating in shuffled],
        "capitals": [{"Name": title.upper(), "SCORE": str(rating)} for title, rating in shuffled],
        "pairs": [list(pair) for pair in shuffled],
        "numbers": ratings,
        "wrapped": {
            "predictions": [{"title": title, "predicted_rating": rating} for title, rating in shuffled]
        },
    }
    for value in forms.values():
        answer = json.dumps(value)
        for text in (answer, f"Here you are:\n```json\n{answer}\n```\nDone."):
            assert parse_ratings(text, titles, FIVE_STARS) == tuple(ratings)


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
    ],
)
def test_no_persona_has_a_reason(answer: str | None, expected: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{expected}$"):
        parse_persona(answer)


def test_a_persona_that_only_begins_like_a_refusal_stays() -> None:
    assert parse_persona("I can't stand musicals. " + "I love westerns. " * 40).startswith("I can't stand")


def test_a_persona_can_be_stored_anywhere() -> None:
    assert parse_persona("Likes\x00 cats\ud800.\r\nAnd\tdogs.").encode() == b"Likes  cats .\nAnd dogs."
