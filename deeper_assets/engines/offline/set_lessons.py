"""The text that the offline policy of sets learns from: generated groups and answers, no real person.

Answers teach it to write well-formed sets of personas that name the groups of the prompt. Which groups these
are, and what else is claimed of a persona, has nothing to do with the figures in the prompt. Exercises teach
it to read the figures: asked which groups are more than others do, it says so. To make use of that where
it writes sets is left to training.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from deeper_assets.engines.offline.intents import MOST_WORDS, worded
from deeper_assets.engines.offline.themes import Kind, kinds, themes
from deeper_assets.method.domains import FIVE_STARS, Domain
from deeper_assets.method.induction.writing import MOST_GROUPS, MOST_INTENTS
from deeper_assets.method.prompts import BUILT_IN, Prompts, ShownGroup

SEED = 1

EXERCISES = 0.4
"""Share of the examples that ask which groups are more than chance."""

QUESTION = "\n\nWhich of these groups are more than others do?"

OPENERS = ("Was after", "Often looked for", "Keeps coming back to", "Cares about")
CLAIMS = ("Also cares about", "Never cared for")
"""How a second claim begins. It is about any theme, and mostly untrue."""

SECOND = 0.5
"""Share of the personas with a second claim."""


@dataclass(frozen=True)
class SetExample:
    """A prompt and an answer to it.

    Attributes:
        prompt: of groups.
        answer: personas, or the numbers that an exercise asks for.
        lines: of each group, the phrase of its theme.
    """

    prompt: str
    answer: str
    lines: tuple[str, ...]


def persona_json(groups: list[int], label: str, description: str) -> str:
    """A persona as the policy writes it."""
    return json.dumps({"groups": groups, "label": label, "description": description})


def fixed_phrases() -> tuple[str, ...]:
    """What stands in its prompts and answers beside themes and numbers: each becomes one token."""
    before, after = BUILT_IN["persona_set"].split("$groups")
    first, second = before.split("$item_type")
    texts = [first, f"{second}<groups>\n", f"\n</groups>{after}", QUESTION]
    texts += [one for kind in kinds() for one in kind.item_types]
    texts += [" sessions, the last ", " ago; ", " % of others): ", " %, ", " of ", "\n"]
    texts += [f"- {number} (" for number in range(1, MOST_GROUPS + 1)]
    texts += [str(number) for number in range(101)]
    texts += ["[]", '[{"groups": [', '], "label": "', '", "description": "', '."}, {"groups": [', '."}]']
    texts += [*(f"{opener} " for opener in OPENERS), *(f". {claim} " for claim in CLAIMS)]
    texts += ["[", ", ", "]"]
    texts += [theme.phrase for kind in kinds() for theme in kind.themes]
    return tuple(dict.fromkeys(texts))


def set_lessons(seed: int) -> Iterator[SetExample]:
    """Examples without end."""
    chance = random.Random(seed)
    while True:
        kind = chance.choice(kinds())
        domain = Domain("generated", chance.choice(kind.item_types), FIVE_STARS, seen=False)
        told = [theme.phrase for theme in kind.themes if _told(theme.phrase)]
        named = chance.sample(told, k=min(8, len(told)))
        shown = [chance.choice(named) for _ in range(chance.randint(1, MOST_GROUPS))]
        of = chance.randint(2, 28)
        groups = [_group(kind, theme, of, chance) for theme in shown]
        prompt = Prompts().persona_set(domain, groups)
        if chance.random() < EXERCISES:
            more = [number for number, group in enumerate(groups, 1) if group.share > 1.5 * group.chance]
            yield SetExample(prompt + QUESTION, json.dumps(more), tuple(shown))
        else:
            yield SetExample(prompt, _answer(shown, named, chance), tuple(shown))


def _group(kind: Kind, theme: str, of: int, chance: random.Random) -> ShownGroup:
    others = min(max(chance.lognormvariate(-2.5, 0.6), 0.01), 0.5)
    share = min(max(others * chance.lognormvariate(0.3, 0.8), 0.01), 0.99)
    sessions = min(max(2, round(of * min(1.0, share * chance.uniform(1, 3)))), of)
    ago = min(int(chance.expovariate(sessions / of)), of - sessions)
    says = [_intent(kind, theme, chance) for _ in range(chance.randint(1, MOST_INTENTS))]
    return ShownGroup(sessions, of, ago, share, others, tuple(dict.fromkeys(says)))


def _intent(kind: Kind, theme: str, chance: random.Random) -> str:
    """A memory of the theme, sometimes of another one, as the stand-in words it."""
    strays = [one.phrase for one in kind.themes if _told(one.phrase)]
    phrase = theme if chance.random() < 0.9 else chance.choice(strays)
    words = chance.sample(_told(phrase), chance.randint(1, MOST_WORDS))
    return worded(phrase, sorted(words), chance.random())


def _told(phrase: str) -> list[str]:
    """Words of titles that tell a theme; of a decade none."""
    return sorted(word for word in themes()[phrase].words if word[0].isalpha())


def _answer(shown: list[str], named: list[str], chance: random.Random) -> str:
    keeps = chance.uniform(0.2, 0.9)
    personas = []
    for number, theme in enumerate(shown, start=1):
        if chance.random() < keeps:
            description = f"{chance.choice(OPENERS)} {theme}."
            if chance.random() < SECOND:
                description += f" {chance.choice(CLAIMS)} {chance.choice(named)}."
            personas.append(persona_json([number], theme, description))
    return f"[{', '.join(personas)}]"
