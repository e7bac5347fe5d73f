from collections import defaultdict

import pytest

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.engines.offline.themes import themes
from deeper_assets.method.domains import PAPER_DOMAINS, Domain, find_domain
from deeper_assets.method.induction.induce import parse_label
from deeper_assets.method.induction.memories import Intent, parse_intents
from deeper_assets.method.prompts import Prompts
from deeper_assets.sources.people import PlantedPeople

BOOK = find_domain("book")


def read(domain: Domain, *events: tuple[str, int]) -> tuple[Intent, ...]:
    [answer] = OfflineChatModel().answer([Prompts().memories(domain, events)])
    return parse_intents(answer.text, len(events))


def test_events_of_one_theme_are_one_intent_and_what_was_disliked_shows_none() -> None:
    told = read(
        BOOK, ("The Dragon of Ashford", 0), ("The Murder", 1), ("Wizard", 1), ("A Sword", -1), ("Qwx", 0)
    )
    assert [intent.events for intent in told] == [(0, 2), (1,)]


def test_that_a_film_is_of_some_decade_is_no_intent() -> None:
    assert read(find_domain("movielens"), ("Zork (1994)", 0), ("Blat (1987)", 0)) == ()


@pytest.mark.parametrize("domain", PAPER_DOMAINS, ids=lambda domain: domain.name)
def test_one_theme_is_worded_in_more_ways_than_one(domain: Domain) -> None:
    log = list(PlantedPeople(domain, seed=3, users=4, noise=0).log())
    wordings = defaultdict(set)
    prompts = [Prompts().memories(domain, [(one.text, 0)]) for one in log]
    for one, answer in zip(log, OfflineChatModel().answer(prompts), strict=True):
        for intent in parse_intents(answer.text, 1):
            wordings[one.theme].add(intent.text)
    assert min(map(len, wordings.values())) > 5
    named = [any(phrase in text for phrase in themes()) for texts in wordings.values() for text in texts]
    assert 0.2 < sum(named) / len(named) < 0.95, "some name the theme, and some do not"


def test_a_persona_is_called_by_what_most_of_its_memories_show() -> None:
    memories = [
        "twisty murder mysteries",
        "things about detective",
        "sweeping magical quests, such as dragon",
    ]
    [answer] = OfflineChatModel().answer([Prompts().persona_label(BOOK, memories)])
    label = parse_label(answer.text)
    assert label.label == "twisty murder mysteries"
    assert label.description.startswith("Was after twisty murder mysteries on 2 occasions")


def test_memories_that_show_nothing_get_no_label() -> None:
    [answer] = OfflineChatModel().answer([Prompts().persona_label(BOOK, ["zork", "blat"])])
    assert (answer.text, answer.reason) == (None, "no_answer")
