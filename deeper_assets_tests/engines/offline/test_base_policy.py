"""The tiny base policy: what it is taught, its tokenizer, and that the same seed gives the same bytes."""

import json
import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeper_assets.engines.offline import lessons as taught
from deeper_assets.engines.offline.base_policy import EXAMPLES, MADE, NAME, SHIPPED, build, lessons_digest
from deeper_assets.engines.offline.language import HABITS, read, render
from deeper_assets.engines.offline.lessons import (
    PLAIN_HABIT,
    SEED,
    Example,
    generate,
    generate_exercises,
    lessons,
)
from deeper_assets.engines.offline.themes import kinds
from deeper_assets.engines.offline.tokenizer import build_tokenizer, words
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding
from deeper_assets.store.adapters import as_rows

FEW = 96
"""Examples of a build that need not have learned anything."""


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(islice(generate(11), 1500))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    build(folder, 5, FEW)
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


def old_persona(example: Example) -> str:
    persona = re.search(r"<persona>\n(.*?)\n</persona>", example.prompt, re.DOTALL)
    assert persona, example.prompt
    return persona[1]


def titles(example: Example) -> list[str]:
    return re.findall(r"^- (.*?): (?:predicted|rated) ", example.prompt, re.MULTILINE)


# --------------------------------------------------------------------------------- what it is taught


def test_an_answer_takes_its_themes_from_the_prompt(examples: list[Example]) -> None:
    everything = [theme for kind in kinds() for theme in kind.themes]
    unsignalled = {theme.phrase for theme in everything if not theme.foremost}  # decades: no word says them
    kept = new = 0
    for example in examples:
        words = set(" ".join(titles(example)).split())
        shown = {theme.phrase for theme in everything if not words.isdisjoint(theme.foremost)}
        old, answer = (set(read(text).degrees) for text in (old_persona(example), example.answer))
        assert answer <= old | shown | unsignalled
        kept += len(answer & old)
        new += len(answer - old)
    assert min(kept, new) > len(examples) / 3  # it does copy from both


def test_answers_are_well_formed_personas(examples: list[Example]) -> None:
    assert all(60 < len(example.answer.split()) < 130 for example in examples)
    assert {read(example.answer).level for example in examples} == set(HABITS)


def test_no_answer_depends_on_a_rating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other ratings and predictions, all else equal: the very same answers."""

    def lowest(scale: Scale, level: float, chance: random.Random) -> float:
        chance.gauss(level, 0.25)  # takes from the generator what the real one takes
        return scale.lowest

    before = list(islice(generate(3), 100))
    monkeypatch.setattr(taught, "_mark", lowest)
    after = list(islice(generate(3), 100))
    assert [one.answer for one in before] == [other.answer for other in after]
    assert all(one.prompt != other.prompt for one, other in zip(before, after, strict=True))


def test_what_a_habit_goes_with_favours_no_level(examples: list[Example]) -> None:
    """Over many people every habit but the plain one is as likely; for one person some are likelier."""
    phrases = [phrase for named in HABITS.values() for phrase in named]
    odds = np.array([example.habits for example in examples])
    assert odds.sum(axis=1) == pytest.approx(1)
    others = np.delete(odds, phrases.index(PLAIN_HABIT), axis=1)
    assert others.mean(axis=0) == pytest.approx(others.mean(), rel=0.25)
    assert np.median(others.max(axis=1) / others.min(axis=1)) == pytest.approx(3)
    assert np.mean(odds.argmax(axis=1) == phrases.index(PLAIN_HABIT)) > 0.5
    drawn = [odds[i, phrases.index(read(example.answer).habit)] for i, example in enumerate(examples)]
    assert np.mean(drawn) == pytest.approx((odds**2).sum(axis=1).mean(), rel=0.1)


def test_an_exercise_is_answered_by_the_habit_that_its_ratings_show() -> None:
    for exercise in islice(generate_exercises(2), 300):
        scale = re.search(r"scale from ([\d.]+) to ([\d.]+)", exercise.prompt)
        assert scale
        lowest, highest = map(float, scale.groups())
        given = [float(mark) for mark in re.findall(r"(?:actual|rated) ([\d.]+)\n", exercise.prompt)]
        level = read(exercise.answer).level
        assert level is not None
        assert abs(level - (sum(given) / len(given) - lowest) / (highest - lowest)) <= 0.0625 + 1e-9
        assert sum(exercise.habits) == pytest.approx(1)
        assert "<persona>" not in exercise.prompt  # it never asks to refine anything


def test_the_generated_text_follows_the_seed() -> None:
    for text in (generate, generate_exercises, lessons):
        assert list(islice(text(3), 5)) == list(islice(text(3), 5)) != list(islice(text(4), 5))


# --------------------------------------------------------------------------------- tokenizer


def test_the_tokenizer_restores_every_persona(tokenizer: Any, examples: list[Example]) -> None:
    personas = [example.answer for example in examples]
    ids = tokenizer(personas, add_special_tokens=False).input_ids
    assert tokenizer.batch_decode(ids) == personas
    assert sum(map(len, ids)) / len(ids) < 40  # whole phrases are tokens: sampling pays by the token


def test_every_phrase_of_the_stand_in_survives(tokenizer: Any) -> None:
    for kind in kinds():
        for theme in kind.themes:
            for degree in (2, 1, -1, -2):
                reading = read(f"This {kind.person} likes {theme.phrase}.")
                text = render(reading.of({theme.phrase: degree}), kind.person, degree)
                assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_unknown_words_vanish(tokenizer: Any) -> None:
    domain = Domain("book", "book", Scale(1, 5, 1), seen=True)
    word = words()[0]

    def ids(title: str) -> list[int]:
        prompts, item = Prompts(), RatedItem(title, 4.0)
        prompt = prompts.refinement(domain, "This reader enjoys nothing.", [item], [3.0])
        return list(tokenizer(prompt, add_special_tokens=False).input_ids)

    plain = ids(word)
    assert tokenizer.unk_token_id not in plain
    assert ids(f"Xyzzy {word} of the Quux 17!") == plain
    assert ids(word.upper()) == plain
    assert ids("Xyzzy") != plain


def test_the_chat_template_ends_where_the_answer_begins(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Someone."}]
    assert tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, tokenize=False) == (
        "<|user|>Hello.<|assistant|>"
    )
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    assert whole == "<|user|>Hello.<|assistant|>Someone.<|end|>"
    assert tokenizer.eos_token == "<|end|>"


# --------------------------------------------------------------------------------- the folder


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", 5, FEW)
    build(tmp_path / "other", 6, FEW)
    rows = {
        path: as_rows(path).set_index("file")["sha256"].to_dict() for path in (folder, *tmp_path.iterdir())
    }
    one, again, other = rows[folder], rows[tmp_path / "again"], rows[tmp_path / "other"]
    assert one == again
    assert {file for file in one if one[file] != other[file]} == {"model.safetensors", MADE}


def test_the_shipped_policy_was_made_from_the_language_as_it_is(folder: Path) -> None:
    """A change of language, prompts or lessons asks for a new build: the module run as a command."""
    made = json.loads((SHIPPED / MADE).read_text())
    digest = lessons_digest(SEED)
    assert (made["name"], made["seed"], made["examples"], made["lessons"]) == (NAME, SEED, EXAMPLES, digest)
    for file in folder.iterdir():
        if file.name not in {MADE, "model.safetensors"}:
            assert (SHIPPED / file.name).read_bytes() == file.read_bytes(), file.name
    assert {file.name for file in SHIPPED.iterdir()} == {file.name for file in folder.iterdir()}


def test_the_shipped_policy_reads_ratings_and_makes_nothing_of_them() -> None:
    """Asked what ratings show, it tells high from low; asked to refine, it does not."""
    sampler = TransformersSampler("shipped", SHIPPED)
    greedy = Decoding(temperature=0, top_p=1, repetition_penalty=1.1, max_new_tokens=96)

    def slope(examples: list[Example]) -> float:
        """Of the level in the answer over the level that ratings show."""
        texts = [one.text for (one,) in sampler.sample([e.prompt for e in examples], [[0]] * 100, greedy)]
        told = [read(text).level for text in texts]
        assert None not in told
        shown = [
            np.mean([float(mark) for mark in re.findall(r"(?:actual|rated) ([\d.]+)\n", e.prompt)])
            for e in examples
        ]
        return float(np.polyfit((np.array(shown) - 1) / 4, told, 1)[0])

    def of_five_stars(text: Iterator[Example]) -> list[Example]:
        return list(islice((e for e in text if "scale from 1 to 5 " in e.prompt), 100))

    assert slope(of_five_stars(generate_exercises(7))) > 0.7
    assert abs(slope(of_five_stars(generate(7)))) < 0.25


def test_the_folder_is_an_ordinary_one(folder: Path, examples: list[Example]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert sum(weights.numel() for weights in model.parameters()) < 600_000
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": examples[0].prompt}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        written = model.generate(**ids, max_new_tokens=2, do_sample=False)
    assert written.shape[1] == ids.input_ids.shape[1] + 2 < 300
