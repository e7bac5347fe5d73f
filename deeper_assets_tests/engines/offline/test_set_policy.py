"""The policy that writes sets offline, and the text that it learns from."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.engines.offline.base_policy import MADE
from deeper_assets.engines.offline.set_lessons import (
    EXERCISES,
    QUESTION,
    SEED,
    SetExample,
    fixed_phrases,
    set_lessons,
)
from deeper_assets.engines.offline.set_policy import SHIPPED, build, lessons_digest
from deeper_assets.engines.offline.tokenizer import build_tokenizer
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.writing import MOST_GROUPS, parse_set
from deeper_assets.method.protocols import Decoding
from deeper_assets.store.adapters import as_rows, identity

LINE = re.compile(
    r"^- (\d+) \((\d+) of (\d+) sessions, the last (\d+) ago; (\d+) %, (\d+) % of others\): ", re.M
)
GREEDY = Decoding(temperature=0, repetition_penalty=1.1, max_new_tokens=160)


@pytest.fixture(scope="module")
def lessons() -> list[SetExample]:
    return list(islice(set_lessons(3), 1200))


@pytest.fixture(scope="module")
def sets(lessons: list[SetExample]) -> list[SetExample]:
    return [one for one in lessons if QUESTION not in one.prompt]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(fixed_phrases())


def figures(prompt: str) -> list[list[int]]:
    """Number, sessions, of, ago, share and chance of each group."""
    return [[int(number) for number in match] for match in LINE.findall(prompt)]


def test_what_it_is_taught_is_what_a_policy_is_shown(lessons: list[SetExample]) -> None:
    assert max(len(one.lines) for one in lessons) == MOST_GROUPS
    for one in lessons:
        lines = figures(one.prompt)
        assert [line[0] for line in lines] == list(range(1, len(one.lines) + 1))
        assert all(2 <= sessions <= of and ago <= of - sessions for _, sessions, of, ago, _, _ in lines)


def test_an_answer_is_a_set_that_names_each_group_by_its_theme(sets: list[SetExample]) -> None:
    for one in sets:
        for persona in parse_set(one.answer, len(one.lines)):
            [group] = persona.groups
            assert persona.label.label == one.lines[group]
            assert one.lines[group] in persona.label.description


def test_no_figure_says_which_groups_are_kept(sets: list[SetExample]) -> None:
    kept: dict[bool, list[bool]] = {True: [], False: []}
    for one in sets:
        named = {group for persona in parse_set(one.answer, len(one.lines)) for group in persona.groups}
        for number, _, _, _, share, chance in figures(one.prompt):
            kept[share > chance].append(number - 1 in named)
    shares = [sum(some) / len(some) for some in kept.values()]
    assert min(map(len, kept.values())) > 500
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_an_exercise_is_answered_by_what_is_more_than_others_do(lessons: list[SetExample]) -> None:
    exercises = [one for one in lessons if QUESTION in one.prompt]
    assert len(exercises) / len(lessons) == pytest.approx(EXERCISES, abs=0.05)
    for one in exercises:
        clear = {number: share - 1.5 * chance for number, *_, share, chance in figures(one.prompt)}
        named = json.loads(one.answer)
        # Figures are rounded in the prompt.
        assert all(more > -1.3 for number, more in clear.items() if number in named)
        assert all(more < 1.3 for number, more in clear.items() if number not in named)


def test_the_tokenizer_restores_every_answer(lessons: list[SetExample], tokenizer: Any) -> None:
    for one in lessons[:300]:
        ids = tokenizer(one.answer, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == one.answer
        assert tokenizer.unk_token_id not in tokenizer(one.prompt, add_special_tokens=False).input_ids


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        build(tmp_path / name, 5, 64)
    assert identity(as_rows(tmp_path / "one")) == identity(as_rows(tmp_path / "other"))


def test_the_shipped_policy_was_made_from_the_lessons_as_they_are(tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    made = json.loads((SHIPPED / MADE).read_text())
    assert made["seed"] == SEED
    assert made["lessons"] == lessons_digest(SEED), "build it anew"
    assert AutoTokenizer.from_pretrained(SHIPPED).get_vocab() == tokenizer.get_vocab()


def test_the_shipped_policy_writes_sets_that_can_be_read(sets: list[SetExample]) -> None:
    sampler = TransformersSampler("shipped", str(SHIPPED))
    some = [one for one in sets if len(one.lines) <= 9][:100]
    written = sampler.sample([one.prompt for one in some], [[number] for number in range(100)], GREEDY)
    right = named = 0
    for one, (sample,) in zip(some, written, strict=True):
        assert sample.finished
        for persona in parse_set(sample.text, len(one.lines)):
            [group] = persona.groups
            named += 1
            right += persona.label.label == one.lines[group]
    assert named > 200
    assert right / named > 0.9, "labels are those of the groups"


def test_the_shipped_policy_reads_figures_and_makes_nothing_of_them(sets: list[SetExample]) -> None:
    """Asked, it tells which groups are more than others do; in sets it keeps both kinds alike."""
    sampler = TransformersSampler("shipped", str(SHIPPED))
    some = [one for one in sets if 3 <= len(one.lines) <= 8][:80]
    draws = [[4 * number + draw for draw in range(4)] for number in range(len(some))]
    asked = sampler.sample([one.prompt + QUESTION for one in some], [own[:1] for own in draws], GREEDY)
    any_way = Decoding(temperature=1, top_p=0.95, repetition_penalty=1.1, max_new_tokens=160)
    free = sampler.sample([one.prompt for one in some], draws, any_way)
    right, kept, unread, drawn = [], {True: [], False: []}, 0, 0
    for one, (answer,), samples in zip(some, asked, free, strict=True):
        told, read = json.loads(answer.text), [readable(sample.text, len(one.lines)) for sample in samples]
        unread, drawn = unread + read.count(None), drawn + len(read)
        for number, _, _, _, share, chance in figures(one.prompt):
            is_more = share > 1.5 * chance
            if abs(share - 1.5 * chance) > 3:
                right.append((number in told) == is_more)
                kept[is_more] += [number - 1 in named for named in read if named is not None]
    assert unread / drawn < 0.05
    assert sum(right) / len(right) > 0.8
    shares = [sum(some) / len(some) for some in kept.values()]
    assert shares[0] == pytest.approx(shares[1], abs=0.12)


def readable(text: str, groups: int) -> set[int] | None:
    """The groups that a set names; None where it is none."""
    try:
        return {group for persona in parse_set(text, groups) for group in persona.groups}
    except UnreadableAnswer:
        return None
