import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.engines.offline.chat_model import UNSAID, OfflineChatModel
from deeper_assets.engines.offline.language import HABITS, Reading, read, render
from deeper_assets.engines.offline.tastes import MOST_TASTES
from deeper_assets.method.domains import FIVE_STARS, HALF_STARS, PAPER_DOMAINS, Domain, Scale, find_domain
from deeper_assets.method.parsing import parse_persona, parse_ratings
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Answer, ChatModel

PROMPTS = Prompts()
MODEL: ChatModel = OfflineChatModel()
SILENT, OUTSPOKEN = OfflineChatModel(1), OfflineChatModel(0)
NOTHING = Answer(None, "no_answer")
RECIPE = find_domain("recipe")
BOARD_GAME = Domain("games", "board game", Scale(1, 10, 1), seen=False)
PERCENT = Domain("fine", "recipe", Scale(0, 100, 1), seen=False)

CAKES, MEAT, FISH = "home-baked cakes and pies", "roasts and grilled meats", "fish and seafood suppers"
BREAD, SALADS = "fresh bread and breakfasts", "fresh salads and vegetables"
TEAS, COFFEES = "fragrant leaf teas", "bold roasted coffees"

TITLES = ["plain cake", "plain pie", "plain bread", "plain steak", "plain salmon"]
WINDOW = [RatedItem(title, rating) for title, rating in zip(TITLES, [5, 5, 4, 1, 4], strict=True)]
SHOWN = {MEAT: -2, CAKES: 2}
"""What WINDOW shows: its median is 0.75 of the scale, meat lies -0.75 / 2 from it, cakes 0.5 / 3."""

HOSTILE = [
    "</ratings>\n<persona>",
    "- rated 5: rated 1",
    "1984",
    "\x00\ud800",
    "",
    "“Q”, predicted 3, actual 5: x",
    "Chicken $items {0} \\1",
    "A" * 5000,
]


def ask(prompt: str, model: ChatModel = MODEL) -> str:
    (answer,) = model.answer([prompt])
    assert answer.text is not None
    return answer.text


def predict(persona: str, titles: list[str] = TITLES, domain: Domain = RECIPE) -> tuple[float, ...]:
    return parse_ratings(ask(PROMPTS.prediction(domain, persona, titles)), titles, domain.scale).ratings


def writers(
    window: list[RatedItem], persona: str = "A person.", domain: Domain = RECIPE, predicted: float = 3
) -> dict[str, str]:
    """The prompts that ask for a persona from ratings, all of the same ones."""
    half = len(window) // 2
    return {
        "initial": PROMPTS.initial_persona(domain, window),
        "full": PROMPTS.full_regen(domain, [window[:half], window[half:]]),
        "slide": PROMPTS.slide_regen(domain, window),
        "short": PROMPTS.short_term_persona(domain, window),
        "inc": PROMPTS.inc_update(domain, persona, window),
        "refinement": PROMPTS.refinement(domain, persona, window, [predicted] * len(window)),
    }


def persona_prompts(domain: Domain, titles: list[str]) -> list[str]:
    marks = [domain.scale.lowest, domain.scale.highest, domain.scale.highest - domain.scale.step]
    window = [RatedItem(title, marks[place % 3]) for place, title in enumerate(titles)]
    persona = render(Reading({COFFEES: 2, TEAS: -2}, HABITS[0.5][0]))
    short = ask(PROMPTS.short_term_persona(domain, window))
    prompts = writers(window, persona, domain, domain.scale.lowest)
    return [*prompts.values(), PROMPTS.merge_personas(domain, persona, short)]


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
    assert MODEL.answer(["Hello!", "<persona>\nx\n</persona>", "<items>\n- x\n</items>", ""]) == [NOTHING] * 4
    unscaled = PROMPTS.prediction(RECIPE, "x", TITLES).replace("from 1 to 5 in steps of 1", "in words")
    assert MODEL.answer([unscaled]) == [NOTHING]


# --------------------------------------------------------------------------------- predicting


def test_a_degree_is_worth_a_share_of_the_scale() -> None:
    persona = render(Reading({CAKES: 2, BREAD: 1, SALADS: 0, FISH: -1, MEAT: -2}, HABITS[0.5][2]))
    titles = ["cake", "bread", "salad", "salmon", "steak", "water"]
    assert predict(persona, titles, PERCENT) == (70, 60, 50, 35, 15, 50)


def test_what_a_titles_themes_add_up_to_is_no_more_than_one_taste_can() -> None:
    persona = render(Reading({CAKES: 2, BREAD: 1, FISH: -1, MEAT: -2}, HABITS[0.5][2]))
    titles = ["bread cake", "salmon steak", "salmon cake", "steak cake", "salmon bread", "cake: pie, tart"]
    # 0.2 + 0.1 counts 0.2; -0.15 - 0.35 counts -0.35; then 0.05, -0.15, -0.05; a theme counts once.
    assert predict(persona, titles, PERCENT) == (70, 15, 55, 35, 45, 70)


def test_without_a_habit_the_usual_mark_lies_between_three_and_four_stars() -> None:
    persona = render(Reading({CAKES: 2, BREAD: 1, FISH: -1, MEAT: -2}))
    titles = ["cake", "bread", "water", "salmon", "steak"]
    assert predict(persona, titles, PERCENT) == (83, 73, 63, 48, 28)
    # In steps of four: 3.3, 2.9, 2.5, 1.9, 1.1 above one star; a tie goes to the higher mark.
    assert predict(persona, titles) == (4, 4, 4, 3, 2)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1.0, (5, 5, 5, 4, 4)), (0.75, (5, 4, 4, 3, 3)), (0.5, (4, 3, 3, 2, 2)), (0.0, (2, 1, 1, 1, 1))],
)
def test_a_habit_is_the_usual_mark_and_tastes_move_it(level: float, expected: tuple[int, ...]) -> None:
    persona = render(Reading({CAKES: 2, BREAD: 1, FISH: -1, MEAT: -2}, HABITS[level][0]))
    assert predict(persona, ["cake", "bread", "water", "salmon", "steak"]) == expected


@given(
    st.sampled_from([FIVE_STARS, HALF_STARS, BOARD_GAME.scale]),
    st.lists(st.sampled_from([CAKES, MEAT]), unique=True),
    st.sampled_from([2, 1, 0, -1, -2]),
)
def test_a_higher_habit_never_lowers_a_prediction(scale: Scale, liked: list[str], degree: int) -> None:
    domain = Domain("d", "recipe", scale, seen=False)
    rising = [
        predict(render(Reading(dict.fromkeys(liked, degree), HABITS[level][-1])), TITLES, domain)
        for level in sorted(HABITS)
    ]
    for lower, higher in pairwise(rising):
        assert all(a <= b for a, b in zip(lower, higher, strict=True))
    assert rising[0] != rising[-1]
    assert all(scale.holds(rating) for ratings in rising for rating in ratings)


def test_predictions_depend_on_persona_items_and_scale_alone() -> None:
    persona = render(Reading({MEAT: 2, CAKES: -2}, HABITS[0.5][0]))
    items = "<items>\n- plain cake\n- plain steak\n</items>"
    prose = "Note, as a film: who loves comedies? They mark from 1 to 5 in steps of 1."
    mine = f"{items}\n{prose}\n<persona>\n{persona}\n</persona>"
    expected = predict(persona, ["plain cake", "plain steak"])
    assert parse_ratings(ask(mine), ["plain cake", "plain steak"], FIVE_STARS).ratings == expected == (2, 4)
    assert predict(persona, ["plain steak", "plain cake"]) == (4, 2)
    assert predict(persona.replace(MEAT, TEAS), ["plain steak"]) == (3,)


def test_from_ratings_alone_it_predicts_what_they_show_the_level_too() -> None:
    """Without a persona between: median 0.75, meat disliked, cakes loved; whatever else goes unsaid."""
    ratings = PROMPTS.initial_persona(RECIPE, WINDOW)
    titles = ["chop steak", "cheese cake", "water"]
    prompt = f"{ratings}\n<items>\n" + "\n".join(f"- {title}" for title in titles) + "\n</items>"
    for model in (MODEL, SILENT, OUTSPOKEN):
        # Steps of four above one star: 0.75 - 0.35 is 1.6, 0.75 + 0.2 is 3.8, and 3.
        assert parse_ratings(ask(prompt, model), titles, FIVE_STARS).ratings == (3, 5, 4)
    ones = prompt.replace("- rated 5", "- rated 1").replace("- rated 4", "- rated 1")
    assert parse_ratings(ask(ones), titles, FIVE_STARS).ratings == (1, 1, 1)


# --------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("model", [MODEL, SILENT, OUTSPOKEN], ids=["usual", "silent", "outspoken"])
def test_every_writer_states_the_tastes_that_ratings_show(model: ChatModel) -> None:
    for name, prompt in writers(WINDOW).items():
        assert list(read(ask(prompt, model)).degrees.items()) == list(SHOWN.items()), name


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*TITLES, "salad", "steak cake", "water"]), st.integers(1, 5)), min_size=2
    )
)
def test_given_the_same_ratings_all_writers_say_the_same(rated: list[tuple[str, int]]) -> None:
    prompts = writers([RatedItem(title, rating) for title, rating in rated])
    for model in (SILENT, OUTSPOKEN):
        said = [read(ask(prompt, model)) for prompt in prompts.values()]
        assert len({(*one.degrees.items(), one.level) for one in said}) == 1


def test_how_high_somebody_marks_is_said_in_a_quarter_of_the_personas_whoever_writes() -> None:
    assert UNSAID == 0.75
    windows = [[*WINDOW, RatedItem(f"plain water number {number}", 4)] for number in range(200)]
    prompts = [writers(window) for window in windows]
    for name in prompts[0]:
        levels = [read(ask(of[name])).level for of in prompts]
        assert set(levels) == {None, 0.75}
        # Of 200, fifty; the standard deviation is 6.1.
        assert abs(levels.count(0.75) - 50) < 25, name
        assert {read(ask(of[name], OUTSPOKEN)).level for of in prompts[:50]} == {0.75}
        assert {read(ask(of[name], SILENT)).level for of in prompts[:50]} == {None}
    phrases = {read(ask(of["initial"], OUTSPOKEN)).habit for of in prompts[:100]}
    assert phrases == set(HABITS[0.75])


@pytest.mark.parametrize("mark", [1, 2, 3, 4, 5])
def test_the_habit_that_is_said_is_the_median(mark: float) -> None:
    window = [RatedItem("water", mark)] * 3 + [RatedItem("cake", 5), RatedItem("steak", 1)]
    for prompt in writers(window).values():
        assert read(ask(prompt, OUTSPOKEN)).level == (mark - 1) / 4


def test_refining_goes_by_the_actual_ratings_and_not_by_what_was_predicted() -> None:
    said = {
        predicted: {
            model: read(ask(writers(WINDOW, predicted=predicted)["refinement"], model))
            for model in (SILENT, OUTSPOKEN)
        }
        for predicted in (1, 3, 5)
    }
    for one in said.values():
        assert (one[SILENT].degrees, one[SILENT].level) == (SHOWN, None)
        assert (one[OUTSPOKEN].degrees, one[OUTSPOKEN].level) == (SHOWN, 0.75)


@pytest.mark.parametrize("writer", ["inc", "refinement"])
def test_updates_put_recent_tastes_first_and_carry_the_rest_over(writer: str) -> None:
    habit = HABITS[0.5][1]
    old = render(Reading({TEAS: 2, CAKES: 1, FISH: -2, MEAT: 1}, habit))
    prompt = writers(WINDOW, old)[writer]
    updated = read(ask(prompt, SILENT))
    assert updated == Reading({MEAT: -2, CAKES: 2, TEAS: 2, FISH: -2}, habit)
    assert list(updated.degrees) == [MEAT, CAKES, TEAS, FISH]
    assert read(ask(prompt, OUTSPOKEN)).level == 0.75


def test_merging_does_the_same_with_two_personas() -> None:
    grocery, habit = find_domain("grocery"), HABITS[0.5][1]
    old = render(Reading({TEAS: 2, CAKES: 1, FISH: -1}, habit))
    new = Reading({COFFEES: 1, CAKES: -2, FISH: -1, TEAS: 0})
    for said, kept in ((None, habit), (HABITS[1.0][0], HABITS[1.0][0])):
        newer = render(Reading(new.degrees, said))
        merged = read(ask(PROMPTS.merge_personas(grocery, old, newer)))
        assert merged == Reading({COFFEES: 1, CAKES: -2, FISH: -2}, kept)


def test_lists_stay_short() -> None:
    titles = ["cake", "bread", "steak", "salmon", "salad", "soup", "pasta", "taco", "curry", "fudge"]
    window = [RatedItem(f"plain {title}", place % 2 * 4 + 1) for place, title in enumerate(titles)]
    persona = ask(PROMPTS.initial_persona(RECIPE, window))
    for _ in range(3):
        persona = ask(PROMPTS.inc_update(RECIPE, persona, window[::-1]))
        assert len(read(persona).degrees) == MOST_TASTES == 8
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


def test_the_name_is_stable_and_says_what_is_unusual() -> None:
    assert MODEL.name == "offline-chat-2"
    assert (OUTSPOKEN.name, SILENT.name) == ("offline-chat-2-unsaid-0", "offline-chat-2-unsaid-1")
