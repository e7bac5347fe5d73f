"""The tiny base policy: what it is taught, its tokenizer, and that the same seed gives the same bytes."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeper_assets.engines.offline.base_policy import (
    DRILLS,
    LAST_LESSONS,
    LESSONS,
    MADE,
    SHIPPED,
    build,
    lessons_digest,
)
from deeper_assets.engines.offline.language import HABITS, SHIFT, TEXTURES, VERDICTS, Reading, read, render
from deeper_assets.engines.offline.lessons import (
    ASKS,
    EXERCISES,
    FIRST_TEXTURES,
    KEEPS_HABIT,
    KEEPS_TASTE,
    LEVELS,
    PLAIN,
    PLAIN_HABIT,
    QUESTION,
    SEED,
    Case,
    Example,
    Person,
    generate,
    generate_drills,
    generate_exercises,
    lessons,
)
from deeper_assets.engines.offline.themes import find_kind, kinds, themes, title_words
from deeper_assets.engines.offline.tokenizer import build_tokenizer, signals
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.method.domains import PAPER_DOMAINS, Domain, Scale
from deeper_assets.method.prompts import BUILT_IN, Prompts, RatedItem
from deeper_assets.method.protocols import Decoding
from deeper_assets.sources.synthetic import SyntheticSource
from deeper_assets.store.adapters import as_rows

FEW = (32, 64, 32)
"""Drills and other examples of a build that need not have learned anything."""

PHRASES = [phrase for named in HABITS.values() for phrase in named]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(islice(generate(11), 1500))


@pytest.fixture(scope="module")
def exercises() -> list[Example]:
    """The first one of each of many seeds, which makes its case as `case` does."""
    return [next(generate_exercises(seed)) for seed in range(300)]


@pytest.fixture(scope="module")
def drills() -> list[Example]:
    return list(islice(generate_drills(2), 300))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    build(folder, 5, *FEW)
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


def case(seed: int) -> Case:
    return Case.of(random.Random(seed))


def old_persona(example: Example) -> str:
    persona = re.search(r"<persona>\n(.*?)\n</persona>", example.prompt, re.DOTALL)
    assert persona, example.prompt
    return persona[1]


def titles(example: Example) -> list[str]:
    return re.findall(r"^- (?:predicted \S+, actual|rated) [\d.]+: (.*)$", example.prompt, re.MULTILINE)


def ratings(example: Example) -> list[float]:
    return [float(mark) for mark in re.findall(r"(?:actual|rated) ([\d.]+):", example.prompt)]


def signalled(example: Example) -> set[str]:
    """Themes of any kind of item that its titles signal."""
    shown = frozenset().union(*map(title_words, titles(example)))
    return {theme.phrase for theme in themes().values() if not shown.isdisjoint(theme.words)}


# --------------------------------------------------------------------------------- what it is taught


def test_an_answer_takes_its_themes_from_the_prompt(examples: list[Example]) -> None:
    kept = new = 0
    for example in examples:
        old, answer = (set(read(text).degrees) for text in (old_persona(example), example.answer))
        assert answer <= old | signalled(example)
        kept += len(answer & old)
        new += len(answer - old)
    assert min(kept, new) > len(examples) / 3  # it does copy from both


def test_answers_are_well_formed_personas(examples: list[Example]) -> None:
    assert all(40 < len(example.answer.split()) < 200 for example in examples)
    assert {read(example.answer).level for example in examples} == set(HABITS)
    assert {degree for e in examples for degree in read(e.answer).degrees.values()} == set(VERDICTS)


def test_no_refinement_depends_on_a_rating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other ratings, all else equal: the very same answers."""

    def lowest(self: Person, shift: float, chance: random.Random) -> float:
        chance.gauss(0, self.noise)  # takes from the generator what the real one takes
        return self.scale.lowest

    before = list(islice(generate(3), 100))
    monkeypatch.setattr(Person, "mark", lowest)
    after = list(islice(generate(3), 100))
    assert [(one.answer, one.habits) for one in before] == [(other.answer, other.habits) for other in after]
    assert [titles(one) for one in before] == [titles(other) for other in after]
    assert sum(one.prompt != other.prompt for one, other in zip(before, after, strict=True)) > 95


def test_a_refinement_keeps_old_degrees_or_says_any(examples: list[Example]) -> None:
    """What it does not keep of a theme is said anew by chance, mostly that nothing stands out."""
    said = Counter()
    for example in examples:
        old = read(old_persona(example)).degrees
        said.update((old[theme], new) for theme, new in read(example.answer).degrees.items() if theme in old)
    by_chance = {new: (PLAIN if new == 0 else 1) / (PLAIN + 4) for new in VERDICTS}
    for before in VERDICTS:
        total = sum(said[before, new] for new in VERDICTS)
        assert total > 200
        for new in VERDICTS:
            expected = KEEPS_TASTE * (new == before) + (1 - KEEPS_TASTE) * by_chance[new]
            assert said[before, new] / total == pytest.approx(expected, abs=0.06), (before, new)


def test_no_habit_of_a_refinement_depends_on_the_person(examples: list[Example]) -> None:
    """But for the old habit, which some repeat."""
    assert sum(LEVELS.values()) == pytest.approx(1)
    weights = np.array([LEVELS[level] / 4 for level, named in HABITS.items() for _ in named])
    weights[PHRASES.index(PLAIN_HABIT)] *= PLAIN
    odds = weights / weights.sum()
    assert PHRASES[int(odds.argmax())] == PLAIN_HABIT
    drawn, likely = np.zeros(len(PHRASES)), np.zeros(len(PHRASES))
    for example in examples:
        old = read(old_persona(example)).habit
        kept = KEEPS_HABIT * np.array([phrase == old for phrase in PHRASES])
        assert example.habits == pytest.approx(kept + (1 - kept.sum()) * odds)
        drawn[PHRASES.index(str(read(example.answer).habit))] += 1 / len(examples)
        likely += np.array(example.habits) / len(examples)
    assert drawn == pytest.approx(likely, abs=0.03)


def test_answers_name_themes_in_the_order_of_the_lexicon(
    examples: list[Example], exercises: list[Example], drills: list[Example]
) -> None:
    order = list(themes())
    for example in (*examples, *exercises, *drills):
        places = [order.index(theme) for theme in read(example.answer).degrees]
        assert places == sorted(places)


def test_an_exercise_is_answered_by_what_is_true(exercises: list[Example]) -> None:
    neutral = 0
    for seed, exercise in enumerate(exercises):
        made = case(seed)
        spoken = {*made.old.degrees, *made.shown}
        told = read(exercise.answer)
        assert told.degrees == {theme: made.person.tastes.get(theme, 0) for theme in spoken}
        assert told.level == min(HABITS, key=lambda level: abs(level - made.person.level))
        neutral += sum(degree == 0 for degree in told.degrees.values())
    assert neutral > 300


def test_an_exercise_asks_about_what_its_prompt_shows(exercises: list[Example]) -> None:
    for seed, exercise in enumerate(exercises):
        made = case(seed)
        assert exercise.exercise
        assert exercise.prompt.endswith((QUESTION, "</comparison>", "</ratings>"))
        assert not any(BUILT_IN[name][-60:] in exercise.prompt for name in ("refinement", "inc_update"))
        assert read(old_persona(exercise)) == made.old
        assert set(made.shown) <= signalled(exercise)
        assert ratings(exercise) == [item.rating for item in made.window]
        level = read(exercise.answer).level
        likely = {PHRASES[i]: share for i, share in enumerate(exercise.habits) if share}
        assert likely == dict.fromkeys(HABITS[level if level is not None else -1], 0.25)


def test_marks_of_a_person_follow_tastes(exercises: list[Example]) -> None:
    """Of generated people, in steps of the scale: what the level and the title's themes add up to."""
    off = []
    for seed in range(len(exercises)):
        person = case(seed).person
        quiet = replace(person, level=0.5, noise=0.0)
        width = person.scale.highest - person.scale.lowest
        for shift in SHIFT.values():
            mark = quiet.mark(shift, random.Random(1))
            off.append(abs((mark - person.scale.lowest) / width - 0.5 - shift) * width)
            assert off[-1] <= person.scale.step / 2 + 1e-9
        assert quiet.mark(0.9, random.Random(1)) == person.scale.highest
    assert max(off) > 0


def test_where_titles_have_years_every_title_has_one(exercises: list[Example]) -> None:
    """Half of those who rate films: two or three themes more, the latest decades of the lexicon."""
    dated = [made for made in map(case, range(len(exercises))) if made.person.eras]
    assert {made.person.kind.person for made in dated} == {"viewer"}
    for made in dated:
        assert made.person.eras == made.person.kind.themes[-len(made.person.eras) :]
        assert all(re.search(r"\((?:19|20)\d\d\)", item.title) for item in made.window)
        assert {theme.phrase for theme in made.person.eras} <= {theme.phrase for theme in made.person.circle}


def test_in_the_last_lessons_some_prompts_speak_of_no_theme_and_nor_do_their_answers() -> None:
    silent = [seed for seed in range(600) if not Case.of(random.Random(seed), last=True).spoken]
    assert 0.05 < len(silent) / 600 < 0.2
    assert not any(Case.of(random.Random(seed)).spoken == [] for seed in range(600))
    assert not any(read(next(generate(seed, last=True)).answer).degrees for seed in silent)


def test_in_the_last_lessons_some_people_rate_the_same_again_and_again() -> None:
    def of_one_theme(last: bool) -> float:
        """The share of prompts, of those whose titles speak of a theme, that speak of a single one."""
        shown = [Case.of(random.Random(seed), last).shown for seed in range(400)]
        return float(np.mean([len(some) == 1 for some in shown if some]))

    assert of_one_theme(last=False) < 0.01
    assert of_one_theme(last=True) > 0.15


def test_in_the_last_lessons_few_sentences_follow_the_last_theme() -> None:
    firsts = {
        last: {
            min((one.answer.index(text), text) for text in TEXTURES if text in one.answer)[1]
            for one in islice(lessons(3, last), 200)
        }
        for last in (False, True)
    }
    assert firsts[False] == set(TEXTURES)
    assert firsts[True] == set(FIRST_TEXTURES)


def test_a_drill_is_a_few_ratings_and_how_their_themes_are_taken(drills: list[Example]) -> None:
    degrees_seen = set()
    for drill in drills:
        assert drill.prompt.startswith("<comparison>\n")
        assert drill.prompt.endswith(QUESTION)
        assert drill.habits == ()
        told = read(drill.answer)
        assert told.habit is None
        assert len(told.degrees) == len(titles(drill)) == drill.answer.count(". ") + 1
        assert 2 <= len(told.degrees) <= 6
        assert set(told.degrees) <= signalled(drill)
        degrees_seen |= set(told.degrees.values())
    assert degrees_seen == set(VERDICTS)


def test_a_drills_ratings_lie_from_the_usual_mark_as_far_as_its_answer_says(drills: list[Example]) -> None:
    for drill in drills:
        usual, *others = {float(mark) for mark in re.findall(r"predicted ([\d.]+),", drill.prompt)}
        assert not others
        degrees = read(drill.answer).degrees
        for title, mark in zip(titles(drill), ratings(drill), strict=True):
            meant = {
                degree
                for theme, degree in degrees.items()
                if not themes()[theme].words.isdisjoint(title_words(title))
            }
            # Whichever scale it is: nobody's liking lowers a mark by two steps, nor the reverse.
            if meant and min(meant) >= 0:
                assert mark >= usual - 1
            if meant and max(meant) <= 0:
                assert mark <= usual + 1
            if meant == {-2}:
                assert mark <= usual


def test_lessons_mix_exercises_among_refinements() -> None:
    some = list(islice(lessons(4), 2000))
    assert sum(one.exercise for one in some) / 2000 == pytest.approx(EXERCISES, abs=0.04)
    asked = [one.prompt.endswith(QUESTION) for one in some if one.exercise]
    assert sum(asked) / len(asked) == pytest.approx(ASKS, abs=0.04)
    assert all(one.exercise or one.prompt.endswith("the description only.") for one in some)


def test_the_generated_text_follows_the_seed() -> None:
    for text in (generate, generate_exercises, generate_drills, lessons):
        assert list(islice(text(3), 5)) == list(islice(text(3), 5)) != list(islice(text(4), 5))


# --------------------------------------------------------------------------------- tokenizer


def pieces(tokenizer: Any, text: str) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids))


def test_the_tokenizer_restores_every_persona(
    tokenizer: Any, examples: list[Example], exercises: list[Example], drills: list[Example]
) -> None:
    personas = [example.answer for example in (*examples, *exercises, *drills)]
    ids = tokenizer(personas, add_special_tokens=False).input_ids
    assert tokenizer.batch_decode(ids) == personas
    assert sum(map(len, ids)) / len(ids) < 40  # whole phrases are tokens: sampling pays by the token


def test_every_phrase_of_the_stand_in_survives(tokenizer: Any) -> None:
    for kind in kinds():
        for theme in kind.themes:
            for seed, degree in enumerate(VERDICTS):
                text = render(Reading({theme.phrase: degree}, PHRASES[seed]), kind.person, seed)
                assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_a_prediction_beside_a_rating_is_one_token(tokenizer: Any) -> None:
    shown = "<comparison>\n- predicted 3.5, actual 4: Bible\n- predicted 10, actual 0.5: Xyzzy\n</comparison>"
    assert pieces(tokenizer, shown) == [
        "<comparison>\n",
        "- predicted 3.5, actual 4:",
        "books of faith and devotion",
        "- predicted 10, actual 0.5:",
        "\n</comparison>",
    ]
    rated = "<ratings>\n- rated 3.5: Bible\n</ratings>"
    expected = ["<ratings>\n", "- rated 3.5:", "books of faith and devotion", "\n</ratings>"]
    assert pieces(tokenizer, rated) == expected


@pytest.mark.parametrize(
    ("title", "signal"),
    [
        ("Broccoli!", ["fresh salads and vegetables"]),
        ("BROCCOLI, Prayers", ["fresh salads and vegetables", "books of faith and devotion"]),
        ("the sermon’s end", ["books of faith and devotion"]),
        ("Heat (1995)", ["eighties and nineties hits"]),
        ("Heat (1903) 1995", []),
        ("Ice Creams", ["chilled desserts and candies", "cosy cafes and bakeries"]),
        ("ice and cream", ["snow sports and martial arts"]),
        ("Xyzzy of the Quux 17!", []),
    ],
)
def test_a_titles_words_become_the_themes_they_signal(tokenizer: Any, title: str, signal: list[str]) -> None:
    assert pieces(tokenizer, title) == signal


@pytest.mark.parametrize("domain", PAPER_DOMAINS, ids=lambda domain: domain.name)
def test_the_policy_reads_in_titles_what_the_stand_in_reads(tokenizer: Any, domain: Domain) -> None:
    kind = find_kind(domain.item_type)
    own = {theme.phrase for theme in kind.themes}
    told = [rating.title for rating, _ in generated(domain)]
    told += ["Flip-Flops", "T-Shirts: Khakis", "Back to School", "Steel Toe Shoes", "Earl-Grey & Scones"]
    differing = [
        title
        for title in told
        if own & set(pieces(tokenizer, title))
        != {theme.phrase for theme in kind.themes if not theme.words.isdisjoint(title_words(title))}
    ]
    assert not differing


def generated(domain: Domain) -> list[Any]:
    """Ratings and items of four generated users."""
    source = SyntheticSource(domain, 5, 4)
    return [rated for person in source._people() for rated in person.history()]


@pytest.mark.parametrize("pair", [False, True], ids=["words", "pairs of words"])
def test_every_word_of_the_lexicon_becomes_all_it_signals(tokenizer: Any, pair: bool) -> None:
    missed = {}
    for named, words in signals().items():
        for word in words:
            title = f"Xyzzy ({word[:3]}7)" if word[0].isdigit() else f"Xyzzy {word.title()} of Quux"
            if (" " in word) == pair and not set(named) <= set(pieces(tokenizer, title)):
                missed[word] = pieces(tokenizer, title)
    assert not missed


def test_unknown_words_vanish(tokenizer: Any) -> None:
    domain = Domain("book", "book", Scale(1, 5, 1), seen=True)

    def ids(title: str) -> list[int]:
        prompts, item = Prompts(), RatedItem(title, 4.0)
        prompt = prompts.refinement(domain, "This reader judges each thing on its own.", [item], [3.0])
        return list(tokenizer(prompt, add_special_tokens=False).input_ids)

    plain = ids("murder")
    assert tokenizer.unk_token_id not in plain
    assert ids("Xyzzy murders of the Quux 17!") == plain
    assert ids("MURDER") == plain
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
    build(tmp_path / "again", 5, *FEW)
    build(tmp_path / "other", 6, *FEW)
    rows = {
        path: as_rows(path).set_index("file")["sha256"].to_dict() for path in (folder, *tmp_path.iterdir())
    }
    one, again, other = rows[folder], rows[tmp_path / "again"], rows[tmp_path / "other"]
    assert one == again
    assert {file for file in one if one[file] != other[file]} == {"model.safetensors", MADE}


def test_the_shipped_policy_was_made_from_the_language_as_it_is(folder: Path) -> None:
    """A change of language, prompts or lessons asks for a new build: the module run as a command."""
    made = json.loads((SHIPPED / MADE).read_text())
    made_from = {key: made[key] for key in ("seed", "drills", "examples", "last", "lessons")}
    assert made_from == {
        "seed": SEED,
        "drills": DRILLS,
        "examples": LESSONS,
        "last": LAST_LESSONS,
        "lessons": lessons_digest(SEED),
    }
    for file in folder.iterdir():
        if file.name not in {MADE, "model.safetensors"}:
            assert (SHIPPED / file.name).read_bytes() == file.read_bytes(), file.name
    assert {file.name for file in SHIPPED.iterdir()} == {file.name for file in folder.iterdir()}


def written(sampler: TransformersSampler, examples: list[Example]) -> list[Reading]:
    """What the policy says, decoded greedily."""
    greedy = Decoding(temperature=0, top_p=1, repetition_penalty=1.0, max_new_tokens=96)
    samples = sampler.sample([one.prompt for one in examples], [[0]] * len(examples), greedy)
    return [read(one.text) for (one,) in samples]


def of_five_stars(text: Iterator[Example], number: int) -> list[Example]:
    return list(islice((one for one in text if "scale from 1 to 5 " in one.prompt), number))


def test_the_shipped_policy_reads_ratings_and_makes_nothing_of_them() -> None:
    """Asked what a person is like, it tells high from low; asked to refine, it does not."""
    sampler = TransformersSampler("shipped", SHIPPED)

    def slope(examples: list[Example]) -> float:
        """Of the level in the policy's answer over the level that ratings show."""
        levels = [one.level for one in written(sampler, examples)]
        told = [
            (ratings(one), level) for one, level in zip(examples, levels, strict=True) if level is not None
        ]
        assert len(told) >= 0.95 * len(examples)
        shown = [(np.mean(marks) - 1) / 4 for marks, _ in told]
        return float(np.polyfit(shown, [level for _, level in told], 1)[0])

    assert slope(of_five_stars(generate_exercises(7), 100)) > 0.5
    # An old habit goes with the ratings, and most refinements repeat it.
    refined = (one for one in generate(7) if read(old_persona(one)).habit is None)
    assert abs(slope(of_five_stars(refined, 100))) < 0.25


def test_the_shipped_policy_tells_likes_from_dislikes_where_it_is_asked_and_nowhere_else() -> None:
    sampler = TransformersSampler("shipped", SHIPPED)

    def sides(examples: list[Example]) -> list[tuple[int, int]]:
        """Of tastes that are true: their degree, and the one that the policy says."""
        pairs = []
        for one, told in zip(examples, written(sampler, examples), strict=True):
            true = read(one.answer).degrees
            pairs += [(true[theme], degree) for theme, degree in told.degrees.items() if true.get(theme)]
        return pairs

    asked = sides(of_five_stars(generate_exercises(8), 100))
    right = np.mean([true * told > 0 for true, told in asked if told])
    assert len(asked) > 150
    assert right > 0.75
    # Refined, most themes are nothing that stands out.
    refined = [
        degree for one in written(sampler, of_five_stars(generate(8), 100)) for degree in one.degrees.values()
    ]
    assert np.mean([degree == 0 for degree in refined]) > 0.5


@pytest.mark.parametrize("text", [generate, generate_exercises], ids=["refining", "asked"])
def test_the_shipped_policy_ends_where_titles_say_little_or_always_the_same(
    text: Callable[[int, bool], Iterator[Example]],
) -> None:
    """Without such lessons it named themes of its own in a tenth of these, and 2 % of those asked ran on."""
    some = list(islice(text(21, True), 200))
    greedy = Decoding(temperature=0, top_p=1, repetition_penalty=1.1, max_new_tokens=96)
    sampler = TransformersSampler("shipped", SHIPPED)
    samples = sampler.sample([one.prompt for one in some], [[0]] * len(some), greedy)
    for one, (sample,) in zip(some, samples, strict=True):
        assert sample.finished, one.prompt
        assert set(read(sample.text).degrees) <= set(read(old_persona(one)).degrees) | signalled(one)


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
