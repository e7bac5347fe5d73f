from collections import Counter
from itertools import pairwise

import pytest

from deeper_assets.engines.offline.themes import kinds
from deeper_assets.method.domains import PAPER_DOMAINS, Domain, find_domain
from deeper_assets.sources.people import FAVOURITES, ITEMS, PlantedPeople, planted_log, planted_personas_of
from deeper_assets.sources.themes import catalogue

BOOK = find_domain("book")


def people(noise: float = 0.2, users: int = 60, seed: int = 1) -> PlantedPeople:
    return PlantedPeople(BOOK, seed, users, noise)


def test_a_person_is_the_same_however_many_are_asked_for() -> None:
    few, many = list(people(users=3).log()), list(people(users=9).log())
    assert few == [one for one in many if one.user_id <= "book-p00002"]
    assert few != list(people(users=3, seed=2).log())


def test_people_have_two_to_four_personas_or_none() -> None:
    truth = list(people(users=400).truth())
    counts = Counter(Counter(one.user_id for one in truth).values())
    assert set(counts) == {2, 3, 4}
    assert 1 - sum(counts.values()) / 400 == pytest.approx(1 / 8, abs=0.04)
    further = [one for own, one in pairwise(truth) if own.user_id == one.user_id]
    begun = sum(one.until is not None for one in further) / len(further)
    assert begun == pytest.approx(0.2, abs=0.05), "one of five ends half-way"


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_noise_is_the_share_of_events_of_no_persona(noise: float) -> None:
    world = people(noise)
    aimless = {one.user_id for one in world.log()} - {one.user_id for one in world.truth()}
    events = [one for one in world.log() if one.user_id not in aimless]
    assert sum(one.theme is None for one in events) / len(events) == pytest.approx(noise, abs=0.02)
    assert {one.theme for one in world.log() if one.user_id in aimless} == {None}


def test_events_of_a_persona_lie_in_its_life() -> None:
    world = people()
    lives = {(one.user_id, one.theme): (one.since, one.until) for one in world.truth()}
    for one in world.log():
        if one.theme is not None:
            since, until = lives[one.user_id, one.theme]
            assert since <= one.happened_at
            assert until is None or one.happened_at < until


def test_things_come_again_and_some_more_often_than_others() -> None:
    log = [one for one in people(users=100).log() if one.theme is not None]
    own = Counter((one.user_id, one.text) for one in log)
    assert sum(number > 1 for number in own.values()) / len(own) > 0.2
    of_theme = Counter(one.text for one in log if one.theme == "crime")
    first, last = people().titles["crime"][0], people().titles["crime"][-1]
    assert of_theme[first] > 3 * of_theme[last]
    assert FAVOURITES < ITEMS


def test_nobody_does_two_things_at_once() -> None:
    log = planted_log(people())
    assert not log.duplicated(["user_id", "happened_at"]).any()


def test_without_generated_people_there_is_nothing() -> None:
    assert planted_log(None).columns.tolist() == ["user_id", "happened_at", "text", "theme"]
    assert planted_personas_of(None).empty


@pytest.mark.parametrize("domain", PAPER_DOMAINS, ids=lambda domain: domain.name)
def test_who_generates_and_who_reads_share_no_list_of_words(domain: Domain) -> None:
    lists = [
        {word.lower() for word in words} for words in catalogue(domain.name, domain.item_type).themes.values()
    ]
    known = [theme.words for kind in kinds() for theme in kind.themes]
    assert not any(words == theme for words in lists for theme in known)
