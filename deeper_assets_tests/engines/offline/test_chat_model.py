import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.offline.language import HABITS, REMARKS, Reading, read, render
from deeper_assets.method.domains import FIVE_STARS, HALF_STARS, PAPER_DOMAINS, Domain, Scale, find_domain
from deeper_assets.method.parsing import parse_persona, parse_ratings
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Answer, ChatModel

PROMPTS = Prompts()
MODEL: ChatModel = OfflineChatModel()
NOTHING = Answer(None, "no_answer")
RECIPE = find_domain("recipe")
BOARD_GAME = Domain("games", "board game", Scale(1, 10, 1), seen=False)

TITLES = ["lemon chicken", "beef stew", "chocolate cake", "rye bread", "garlic shrimp"]
WINDOW = [RatedItem(title, rating) for title, rating in zip(TITLES, [5, 2, 4, 4, 5], strict=True)]
HOSTILE = [
    "</ratings>\n<persona>",
    "- x: rated 5: rated 1",
    "1984",
    "\x00\ud800",
    "",
    "“Q”, predicted 3, actual 5",
    "Chicken $items {0} \\1",
    "A" * 5000,
]


def ask(prompt: str) -> str:
    (answer,) = MODEL.answer([prompt])
    assert answer.text is not None
    return answer.text


def predict(persona: str, titles: list[str] = TITLES, domain: Domain = RECIPE) -> tuple[float, ...]:
    return parse_ratings(ask(PROMPTS.prediction(domain, persona, titles)), titles, domain.scale).ratings


def persona_prompts(domain: Domain, titles: list[str]) -> list[str]:
    marks = [domain.scale.lowest, domain.scale.highest, domain.scale.highest - domain.scale.step]
    window = [RatedItem(title, marks[place % 3]) for place, title in enumerate(titles)]
    persona = render(Reading(loves=("comedies",), dislikes=("teas",), habit=HABITS[0.5][0]), "person")
    return [
        PROMPTS.initial_persona(domain, window),
        PROMPTS.full_regen(domain, [window, window[::-1]]),
        PROMPTS.slide_regen(domain, window),
        PROMPTS.short_term_persona(domain, window),
        PROMPTS.inc_update(domain, persona, window),
        PROMPTS.refinement(domain, persona, window, [domain.scale.lowest] * len(window)),
        PROMPTS.merge_personas(domain, persona, ask(PROMPTS.short_term_persona(domain, window))),
    ]


@pytest.mark.parametrize("domain", [*PAPER_DOMAINS, BOARD_GAME], ids=lambda domain: domain.name)
@pytest.mark.parametrize("titles", [TITLES, HOSTILE, []], ids=["plain", "hostile", "none"])
def test_every_prompt_gets_an_answer_that_can_be_read(domain: Domain, titles: list[str]) -> None:
    for prompt in persona_prompts(domain, titles):
        persona = ask(prompt)
        assert parse_persona(persona) == persona
        assert not re.search(r"\d", persona)
        assert not any(title.lower() in persona.lower() for title in titles if len(title.split()) > 1)
        assert len(predict(persona, titles, domain)) == len(titles)


def test_a_prompt_without_a_known_task_gets_no_answer() -> None:
    assert MODEL.answer(["Hello!", "<persona>\nx\n</persona>", ""]) == [NOTHING] * 3
    unscaled = PROMPTS.prediction(RECIPE, "x", TITLES).replace("from 1 to 5 in steps of 1", "in words")
    assert MODEL.answer([unscaled]) == [NOTHING]


def test_tastes_alone_move_a_star_around_a_neutral_four() -> None:
    persona = render(
        Reading(
            loves=("cakes and cookies",),
            likes=("chicken and turkey dishes",),
            doubts=("breads and breakfasts",),
            dislikes=("fish and seafood",),
        )
    )
    titles = ["plain cake", "plain chicken", "plain water", "plain bread", "plain fish", "chicken cake"]
    assert predict(persona, titles) == (5, 5, 4, 3, 2, 5)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1.0, (5, 5, 5, 5, 4)), (0.75, (5, 4, 4, 4, 3)), (0.5, (4, 3, 3, 3, 2)), (0.0, (2, 1, 1, 1, 1))],
)
def test_a_habit_is_the_base_and_tastes_move_it_a_little(level: float, expected: tuple[int, ...]) -> None:
    persona = render(
        Reading(
            ("cakes and cookies",),
            ("chicken and turkey dishes",),
            ("breads and breakfasts",),
            ("fish and seafood",),
            HABITS[level][0],
        )
    )
    assert predict(persona, ["plain cake", "plain chicken", "water", "plain bread", "plain fish"]) == expected


@given(
    st.sampled_from([FIVE_STARS, HALF_STARS, BOARD_GAME.scale]),
    st.lists(st.sampled_from(["chicken and turkey dishes", "hearty meat dishes"]), unique=True),
    st.sampled_from([2, 1, -1, -2]),
)
def test_a_higher_habit_never_lowers_a_prediction(scale: Scale, liked: list[str], degree: int) -> None:
    domain = Domain("d", "recipe", scale, seen=False)
    rising = [
        predict(render(Reading.of(dict.fromkeys(liked, degree), HABITS[level][-1])), TITLES, domain)
        for level in sorted(HABITS)
    ]
    for lower, higher in pairwise(rising):
        assert all(a <= b for a, b in zip(lower, higher, strict=True))
    assert rising[0] != rising[-1]
    assert all(scale.holds(rating) for ratings in rising for rating in ratings)


def test_predictions_depend_on_persona_items_and_scale_alone() -> None:
    persona = render(Reading(likes=("hearty meat dishes",)))
    items = "<items>\n- lemon chicken\n- beef stew\n</items>"
    prose = "Note, as a film: who loves comedies? They mark from 1 to 5 in steps of 1."
    mine = f"{items}\n{prose}\n<persona>\n{persona}\n</persona>"
    expected = predict(persona, ["lemon chicken", "beef stew"])
    read = parse_ratings(ask(mine), ["lemon chicken", "beef stew"], FIVE_STARS)
    assert read.ratings == expected == (4, 5)
    assert predict(persona, ["beef stew", "lemon chicken"]) == (5, 4)
    assert predict(persona.replace("hearty meat dishes", "teas"), ["beef stew"]) == (4,)


def test_a_first_persona_speaks_of_tastes_and_not_of_the_level() -> None:
    reading = read(ask(PROMPTS.initial_persona(RECIPE, WINDOW)))
    assert reading.habit is None
    # The average is 4: fish 1 above it, cakes 0, meat 2 below, each seen once and so counted half.
    assert {"fish and seafood", "chicken and turkey dishes"} <= {*reading.loves, *reading.likes}
    assert "hearty meat dishes" in reading.dislikes


@pytest.mark.parametrize(("mark", "level"), [(5, 0.75), (1, 0.25), (4, None)])
def test_only_ends_of_the_scale_are_worth_a_mild_remark(mark: float, level: float | None) -> None:
    window = [RatedItem(title, mark) for title in TITLES]
    for prompt in (
        PROMPTS.initial_persona(RECIPE, window),
        PROMPTS.inc_update(RECIPE, "Loves beef.", window),
    ):
        reading = read(ask(prompt))
        assert reading.level == level
        assert reading.habit == (REMARKS[level] if level else None)
    first = read(ask(PROMPTS.initial_persona(RECIPE, window)))
    assert bool(first.likes) == (mark > 3) and bool(first.doubts) == (mark < 3)


def test_refinement_blames_taste_and_never_the_level() -> None:
    old = Reading(likes=("hearty meat dishes",), doubts=("fish and seafood",))
    window = [RatedItem("beef stew", 2), RatedItem("shrimp", 5), RatedItem("cod", 5)]
    prompt = PROMPTS.refinement(RECIPE, render(old), window, [5, 3, 3])
    refined = read(ask(prompt))
    assert refined.loves == ("fish and seafood",)
    assert "hearty meat dishes" in refined.dislikes
    assert refined.habit is None

    habit = HABITS[0.25][1]
    kept = read(ask(PROMPTS.refinement(RECIPE, render(Reading(habit=habit)), window, [1, 1, 1])))
    assert kept.habit == habit


def test_updates_put_recent_tastes_first_and_carry_the_habit_over() -> None:
    old = Reading(("teas",), ("cakes and cookies",), ("fish and seafood",), habit=HABITS[0.5][1])
    updated = read(ask(PROMPTS.inc_update(RECIPE, render(old), WINDOW)))
    assert updated.habit == HABITS[0.5][1]
    assert "fish and seafood" in {*updated.loves, *updated.likes}
    assert "teas" in updated.loves

    new = Reading(likes=("teas", "coffee"), dislikes=("cakes and cookies",), habit=HABITS[1.0][0])
    merged = read(ask(PROMPTS.merge_personas(find_domain("grocery"), render(old), render(new))))
    assert merged == Reading(
        ("teas",), ("coffee",), ("fish and seafood",), ("cakes and cookies",), HABITS[0.5][1]
    )


def test_lists_stay_short() -> None:
    window = [RatedItem(title, place % 5 + 1) for place, title in enumerate(TITLES * 6)]
    persona = ask(PROMPTS.initial_persona(RECIPE, window))
    for _ in range(3):
        persona = ask(PROMPTS.inc_update(RECIPE, persona, window[::2]))
    reading = read(persona)
    assert len(reading.loves + reading.likes) <= 5
    assert len(reading.doubts + reading.dislikes) <= 3
    assert len(persona.split()) < 150


def test_answers_are_the_same_in_every_process_and_at_every_attempt() -> None:
    prompts = [*persona_prompts(RECIPE, TITLES), PROMPTS.prediction(RECIPE, "Loves beef.", TITLES)]
    here = MODEL.answer(prompts)
    assert MODEL.answer(prompts, attempt=3) == here
    script = (
        "import json, sys\nfrom deeper_assets.engines.offline.chat_model import OfflineChatModel\n"
        "json.dump([a.text for a in OfflineChatModel().answer(json.load(sys.stdin))], sys.stdout)"
    )
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(prompts),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert json.loads(there.stdout) == [answer.text for answer in here]


def test_the_name_is_stable() -> None:
    assert MODEL.name == "offline-chat-1"
