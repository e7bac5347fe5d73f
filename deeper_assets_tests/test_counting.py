"""Engines that count: lengths in words, by hand."""

import json
from fractions import Fraction
from itertools import pairwise

import pandas as pd
import pytest

from deeper_assets.counting import CountingChat, CountingSampler, CountingTrainer, Tally, counting, persona
from deeper_assets.engines.training.hardware import ONE_DEVICE
from deeper_assets.method.asking import ratings_schema
from deeper_assets.method.candidates import names_item, states_score
from deeper_assets.method.domains import FIVE_STARS, HALF_STARS, Domain, Scale
from deeper_assets.method.paper_users import PERSONA_TOKENS
from deeper_assets.method.parsing import parse_persona, parse_ratings
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import Training
from deeper_assets.resources import Objective

DOMAIN = Domain("book", "book", FIVE_STARS, seen=True)
WINDOW = [RatedItem("Emma", 4.0), RatedItem("War and Peace", 3.0)]
PROMPTS = Prompts()


def words(text: str) -> int:
    return len(text.split())


def chat(by_schema: bool = False) -> CountingChat:
    return CountingChat(Tally(("some_table", "")), counting(words), 7, by_schema)


def answer(prompt: str) -> str:
    return chat().answer([prompt])[0].text or ""


def policy(shares: dict[str, Fraction]) -> CountingSampler:
    return CountingSampler(Tally(("some_table", "")), counting(words), 7, shares)


def test_a_persona_counts_as_the_text_that_it_stands_for() -> None:
    tokens, text = counting(words), persona(5, 316.8)
    assert tokens(text) == 316.8
    around = words(PROMPTS.inc_update(DOMAIN, "", WINDOW))
    assert tokens(PROMPTS.inc_update(DOMAIN, text, WINDOW)) == around + 316.8
    assert tokens(PROMPTS.merge_personas(DOMAIN, text, persona(6, 245))) == pytest.approx(
        words(PROMPTS.merge_personas(DOMAIN, "", "")) + 316.8 + 245
    )


@pytest.mark.parametrize("number", [0, 5, 2**63 - 1, 2**64 - 1])
def test_a_persona_can_be_used_like_any_other(number: int) -> None:
    text = persona(number, 429.4)
    assert parse_persona(text) == text
    assert not states_score(text) and not names_item(text, ["Persona", "A Persona of Tokens"])
    assert persona(number ^ 1, 429.4) != text


def test_the_chat_models_personas_have_the_papers_lengths() -> None:
    tokens = counting(words)
    for first in (
        PROMPTS.initial_persona(DOMAIN, WINDOW),
        PROMPTS.full_regen(DOMAIN, [WINDOW, WINDOW]),
        PROMPTS.slide_regen(DOMAIN, WINDOW),
        PROMPTS.short_term_persona(DOMAIN, WINDOW),
    ):
        assert tokens(answer(first)) == 245
    for before, after in pairwise(PERSONA_TOKENS["inc_update"]):
        assert tokens(answer(PROMPTS.inc_update(DOMAIN, persona(1, before), WINDOW))) == after
    for before, after in pairwise(PERSONA_TOKENS["hier_merge"]):
        merged = answer(PROMPTS.merge_personas(DOMAIN, persona(1, before), persona(2, 245)))
        assert tokens(merged) == after
    assert tokens(answer(PROMPTS.inc_update(DOMAIN, persona(1, 526.4), WINDOW))) == 526.4


@pytest.mark.parametrize("scale", [FIVE_STARS, HALF_STARS, Scale(0, 100, 0.25)])
def test_predicted_ratings_can_be_read_and_are_drawn_from_the_scale(scale: Scale) -> None:
    domain, titles = Domain("own", "thing", scale, seen=True), ["Emma", "Emma", 'A "<b>" & c - d']
    prompts = [PROMPTS.prediction(domain, persona(number, 245), titles) for number in range(200)]
    answers = chat().answer(prompts, schema=ratings_schema(scale))
    ratings = [parse_ratings(one.text, titles, scale).ratings for one in answers]
    assert all(len(rated) == 3 and len(set(rated)) == 1 and scale.holds(rated[0]) for rated in ratings)
    assert {rated[0] for rated in ratings} >= {scale.lowest, scale.highest}


def test_a_request_counts_its_frame_its_schema_and_its_answer_as_json() -> None:
    prompt = PROMPTS.prediction(DOMAIN, persona(1, 245), ["Emma", "War and Peace"])
    schema = ratings_schema(FIVE_STARS)
    plain, by_schema = chat(), chat(by_schema=True)
    for model, extra in ((plain, 0), (by_schema, words(json.dumps(schema, separators=(",", ":"))))):
        model.tally.weight = 3
        (reply,) = model.answer([prompt], schema=schema)
        amount = model.tally.requests["some_table", ""]
        around = words(PROMPTS.prediction(DOMAIN, "", ["Emma", "War and Peace"]))
        assert amount.rounded == (3, 3 * (7 + extra + around + 245), 3 * words(reply.text or ""))
    assert reply.text is not None and reply.text.startswith('{"ratings":[{"item":"Emma","rating":')
    by_schema.answer([PROMPTS.slide_regen(DOMAIN, WINDOW)])
    persona_alone = 3 * (7 + words(PROMPTS.slide_regen(DOMAIN, WINDOW)))
    assert amount.rounded[1] == 3 * (7 + extra + around + 245) + persona_alone


def test_a_policys_texts_differ_and_end_where_decoding_cuts_them() -> None:
    writer = policy({})
    prompt = PROMPTS.refinement(DOMAIN, persona(1, 245), WINDOW, [3, 4])
    writer.tally.weight = 2.5
    ((first, second),) = writer.sample([prompt], [[11, 12]], Decoding())
    assert first.text != second.text and first.finished and (first.tokens, second.tokens) == (317, 317)
    around = words(PROMPTS.refinement(DOMAIN, "", WINDOW, [3, 4])) + 7
    assert writer.tally.texts["some_table", ""].rounded == (5, round(2.5 * (around + 245)), 5 * 316.8)
    ((cut,),) = writer.sample([prompt], [[11]], Decoding(max_new_tokens=96))
    assert (cut.tokens, cut.finished, counting(words)(cut.text)) == (96, True, 96)


def test_as_many_texts_can_be_used_as_the_share_says() -> None:
    writer = policy({"candidates_1": Fraction(9, 24)})
    seeds = [list(range(8))] * 3
    written = writer.sample(["a", "b", "c"], seeds, Decoding())
    assert all(sample.finished for samples in written for sample in samples)
    writer.tally.made = ("candidates_1", "")
    written = writer.sample(["a", "b", "c"], seeds, Decoding())
    assert [sum(sample.finished for sample in samples) for samples in written] == [3, 3, 3]


def test_a_training_counts_each_prompt_once_an_example_for_the_users_it_stands_for() -> None:
    tally = Tally(("model_1", "paper"), weights={"one two": 10.0, "three": 1.0})
    trainer = CountingTrainer(tally, counting(words))
    objective = Objective("pairwise", "start", Training(validation_share=0.2), 0, ONE_DEVICE)
    none = pd.DataFrame()
    pairs = pd.DataFrame(
        [("one two", persona(1, 5), persona(2, 6), 0), ("three", persona(3, 7), persona(4, 8), 1)],
        columns=["prompt", "chosen", "rejected", "validation"],
    )
    trained = trainer.train("paper_1", none, None, pairs, objective)
    assert trained.rows.empty and trained.report["trained"] == 2
    assert tally.examples["model_1", "paper"].rounded == (round(0.8 * 11), round(0.8 * (130 + 16)), 0)
    tally.made = ("model_1", "balanced")
    groups = pd.DataFrame(
        [(0, "one two", persona(number, 5), 0.5, 0) for number in range(3)]
        + [(1, "three", persona(number, 7), 0.5, 0) for number in range(2)],
        columns=["group", "prompt", "completion", "reward", "validation"],
    )
    trainer.train("balanced_1", none, None, groups, objective)
    assert tally.examples["model_1", "balanced"].rounded == (9, round(0.8 * (170 + 15)), 0)
