"""Leaks: which texts name an item or state a score, and which only sound like it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.leaks import items_of, lists_ratings, names_item, states_score
from deeper_assets_tests.growth import LINEAR, growth


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("The Name of the Rose", "fond of the name of the rose and the like"),
        ("Matrix, The (1999)", "Has seen The Matrix again and again."),
        ("Matrix, The (1999)", "has seen THE MATRIX"),
        ("Amélie (Le fabuleux destin)", "Charmed by Amelie, always."),
        ("You've Got Mail (1998)", "thinks you’ve got mail is sweet"),
        ("Schindler's List", "admires Schindler’s List"),
        ("Inception (2010)", "Loves Inception's ending."),
        ("Tom & Jerry", "still laughs at Tom and Jerry cartoons"),
        ("Up", 'The film "Up," and others.'),
        ("Up", "Films like Up move this person."),
        ("1984", "moved by “1984” and “Up”"),
        ("Seven (a.k.a. Se7en) (1995)", "shaken by Seven and its like"),
        ("Gone Girl: A Novel", "raves about Gone Girl for hours"),
        ("Gone Girl: A Novel", "raves about gone girl: a novel"),
        ("Star Wars: Episode IV - A New Hope (1977)", "grew up with Star Wars."),
        ("Hot Dogs", "never without Hot Dogs"),
        ("banana bread muffins", "Banana bread muffins please"),
    ],
)
def test_titles_are_recognized(title: str, text: str) -> None:
    assert names_item(text, ["Another Title", title])


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Up", "Cheers up at the end. Up to a point, that is."),
        ("Up", "Gives up.\nUp early, too."),
        ("Frozen", "Buys frozen meals."),
        ("Frozen", "Frozen meals are bought often."),
        ("Hot Dogs", "Likes hot dogs."),
        ("I", "Someone who says I often, and I again."),
        ("9", "Takes “9” of them."),
        ("1984", "born in 1984"),
        ("The Name of the Rose", "in the name of the roses"),
        ("Heat (1995)", "cannot stand the heat"),
        ("Gone Girl: A Novel", "the girl is gone, gone girl"),
        ("!!!", "Wow!!!"),
        ("", "Nothing."),
        ("Star Wars", "warlike stars"),
    ],
)
def test_ordinary_language_names_nothing(title: str, text: str) -> None:
    assert not names_item(text, [title])


@given(
    st.lists(st.text("abcé ", min_size=1, max_size=8).filter(str.strip), min_size=2, max_size=5),
    st.text("xyz .,!\n", max_size=20),
    st.text("xyz .,!\n", max_size=20),
)
def test_a_long_title_counts_wherever_it_stands_and_only_there(
    words: list[str], before: str, after: str
) -> None:
    title = " ".join(" ".join(words).split())
    named = names_item(f"{before} {title.upper()} {after}", [title])
    assert named or len("".join(title.split())) < 10
    assert names_item(f'{before} "{title}" {after}', [title]) or len("".join(title.split())) < 2
    assert not names_item(before + after, [title])


@pytest.mark.parametrize(
    "text",
    [
        "Gives 4.5 stars to most.",
        "3 out of 5",
        "a rating of 4",
        "rates most films 4 or 5",
        "A five-star reader.",
        "a 5-star hotel",
        "mostly gives fives",
        "hands out 5s",
        "a perfect 5",
        "Rated it four.",
        "scores between 3 and 4",
        "4/5 is common",
        "averages 4.2",
        "marks around three and a half",
        "ratings hover around 4.",
        "usually gives a four or a five",
        "one star for bad ones",
        "Rating: 3.5",
        "predicted 4, actual 5",
        "★★★★",
        "four out of five.",
        "Nothing scores below 3.",
        "rates to 3½ at most, 3½ stars",
        "ratings of 4 and above",
    ],
)
def test_scores_are_recognized(text: str) -> None:
    assert states_score(text)
    assert states_score(f"Likes crime.\n{text.upper()}\nAnd so on.")


def test_a_score_at_the_end_of_a_line_counts_nothing_on_the_next() -> None:
    assert states_score("The Asteroid of Summer: Predicted 4\nThe Winter's Prophecy is next.")


SHOWN = [
    "the mars of winter predicted 4 actual 5",
    "rated 4 5 a spy in autumn",
    "12 angry men predicted 3 actual 4",
    "predicted 4 5 actual 3 5 the prophecy",
]


@pytest.mark.parametrize(
    "line",
    [
        "The Mars of Winter: 4, Actual 5",
        "- The Mars of Winter: Prediction 7",
        "* **The Mars of Winter**: predicted 4.5, actual 5",
        "predicted 2, actual 3: A Spy in Autumn",
        "12 Angry Men: actual 4",
        "The Prophecy: rated 3",
        "- predicted 2.5, actual 1.5: The Prophecy",
    ],
)
def test_a_line_of_an_item_and_marks_is_listed(line: str) -> None:
    assert lists_ratings(f"Likes crime.\n{line}", items_of(SHOWN))


@pytest.mark.parametrize(
    "text",
    [
        "The Mars of Winter",
        "The Mars of Winter: 2",  # the second part of something
        "Of a rating of 4, The Mars of Winter has all.",
        "The Mars of Summer: predicted 4",
        "Predicted 4, actual 5.",
        "",
    ],
)
def test_names_and_prose_list_nothing(text: str) -> None:
    assert not lists_ratings(text, items_of(SHOWN))
    assert not lists_ratings(text, items_of([]))


@pytest.mark.parametrize(
    "text",
    [
        "Nothing delights more.",
        "gives the very highest mark to nearly everything",
        "leans slightly to the kind side of the middle mark",
        "two or three books",
        "marks two or three things down",
        "rates films from the 1990s highly",
        "from 1990 to 2000",
        "gave up after 3 episodes",
        "gives two chances",
        "nine out of ten films",
        "open 24/7",
        "season 2",
        "rates this one and that",
        "gives one a second chance",
        "one of a kind",
        "30-minute meals for 4 people",
        "scored by 3 composers",
        "rating 12 films",
        "marks the 90s as the best",
        "rates 2-part stories",
        "a first-rate thriller or two",
        "high grades of 100% cotton",
    ],
)
def test_other_numbers_are_no_scores(text: str) -> None:
    assert not states_score(text)


NUMERAL = re.compile(
    r"\d|[½★☆⭐]|\b(?:one|two|three|fours?|fives?|six|seven|eight|nine|ten)\b", re.IGNORECASE
)
MARKING = ["rates", "mark", "of", "a", "rating", "score", "stars", "out", "/", "5", "gives", ",", ".", "most"]


@given(st.lists(st.sampled_from(MARKING) | st.text()))
def test_without_a_number_there_is_no_score(words: list[str]) -> None:
    text = " ".join(words)
    assert not (states_score(text) and not NUMERAL.search(text))


@given(
    st.sampled_from([1, 1.5, 2, 3.5, 4, 5, 10]),
    st.sampled_from(
        ["{} stars", "{}-star", "a rating of {}", "rated {}", "{} out of 5", "{}/5", "averages {}"]
    ),
    st.sampled_from(["", "Likes crime. ", "Above all, this person "]),
    st.sampled_from(["", ".", ", mostly", " and more", " for most"]),
)
def test_every_mark_in_every_form_is_a_score(mark: float, form: str, before: str, after: str) -> None:
    assert states_score(before + form.format(f"{mark:g}") + after)


@pytest.mark.parametrize(
    "hostile", ["rated ", "1 to ", "4.", "9", "gives a ", "5 out of ", "- ", "stars ", "a b "]
)
def test_hostile_texts_take_no_more_than_their_length(hostile: str) -> None:
    def text(length: int) -> str:
        return (hostile * length)[:length]

    titles = ["Up", "a b a b a b a b", "The Name of the Rose"]
    assert growth(states_score, text, 10_000) < LINEAR
    assert growth(lambda own: names_item(own, titles), text, 10_000) < LINEAR
