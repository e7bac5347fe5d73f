"""How the stand-in reads sessions, names personas and judges claims: by its themes, and in words that vary.

What it writes of a theme is its phrase, words of the titles that told it, or both; so two memories of one
theme may have no word in common. Its themes are those of `themes.toml`, which shares no list with whatever
generates people.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from deeper_assets.engines.offline.themes import Kind, themes, themes_of, title_words, words_of

_EVENT = re.compile(r"- (?P<number>\d+)(?: \((?P<sign>liked|disliked)\))?: (?P<text>.*)")
_MEMORY = re.compile(r"- (?P<text>.*)")
_NUMBERED = re.compile(r"- (?P<number>\d+): (?P<text>.*)")
_DENIES = re.compile(r"\b(?:never|not|no|nothing|hardly|avoids|dislikes)\b", re.IGNORECASE)

MOST_WORDS = 3
"""Words of titles that a memory repeats, at most."""


def intents(lines: Sequence[str], kind: Kind, drawn: Callable[[str], float]) -> str:
    """The intents of a session, as JSON: a theme that its events show each. What was disliked shows none.

    `drawn` gives a number in [0, 1) for a purpose.
    """
    events = [match for line in lines if (match := _EVENT.fullmatch(line)) and match["sign"] != "disliked"]
    shown: dict[str, list[re.Match[str]]] = {}
    for event, phrases in zip(events, themes_of([event["text"] for event in events], kind), strict=True):
        words = title_words(event["text"])
        told = {phrase: _told_by(phrase, words) for phrase in phrases}
        if any(told.values()):
            shown.setdefault(max(told, key=lambda phrase: told[phrase]), []).append(event)
    answer = [
        {
            "intent": _worded(phrase, [event["text"] for event in those], drawn(phrase)),
            "events": [int(event["number"]) for event in those],
        }
        for phrase, those in shown.items()
    ]
    return json.dumps(answer, ensure_ascii=False)


def _told_by(phrase: str, words: Collection[str]) -> int:
    """How many words of a title tell a theme. That a film is of some decade is no intent."""
    return sum(word[0].isalpha() for word in words_of(phrase).intersection(words))


def _worded(phrase: str, titles: Sequence[str], share: float) -> str:
    cues = words_of(phrase)
    words = sorted({word for title in titles for word in title_words(title) & cues})[:MOST_WORDS]
    return worded(phrase, words, share)


def worded(phrase: str, words: Sequence[str], share: float) -> str:
    """A memory of a theme and words that told it; `share`, in [0, 1), says in which of three ways."""
    listed = " and ".join(words)
    if share < 0.4 or not words:
        return phrase
    return f"{phrase}, such as {listed}" if share < 0.75 else f"things about {listed}"


def persona(lines: Sequence[str]) -> str | None:
    """Label and description of a persona, as JSON: the theme that most of its memories show.

    None where there are no memories, or where none shows a theme that the stand-in knows.
    """
    memories = [match["text"] for line in lines if (match := _MEMORY.fullmatch(line))]
    told = Counter(phrase for memory in memories for phrase in [_theme_in(memory)] if phrase is not None)
    if not told:
        return None
    [(phrase, times)] = told.most_common(1)
    cues = words_of(phrase)
    words = Counter(word for memory in memories for word in title_words(memory) & cues)
    often = [word for word, _ in sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_WORDS]]
    description = f"Was after {phrase} on {times} occasions"
    description += f", and named {' and '.join(often)}." if often else "."
    return json.dumps({"label": phrase, "description": description}, ensure_ascii=False)


def verdicts(claims: Sequence[str], notes: Sequence[str]) -> str:
    """Which notes show each claim, as JSON: those of its theme. They contradict a claim that denies it."""
    themes_of_notes = [_theme_in(match["text"]) for note in notes if (match := _NUMBERED.fullmatch(note))]
    answer = []
    for match in filter(None, map(_NUMBERED.fullmatch, claims)):
        theme = _theme_in(match["text"])
        same = [number for number, own in enumerate(themes_of_notes, start=1) if own and own == theme]
        denies = _DENIES.search(match["text"]) is not None
        answer.append(
            {
                "claim": int(match["number"]),
                "shown_by": [] if denies else same,
                "contradicted": denies and bool(same),
            }
        )
    return json.dumps(answer)


def _theme_in(memory: str) -> str | None:
    named = [phrase for phrase in themes() if phrase in memory]
    if named:
        return max(named, key=len)
    words = title_words(memory)
    shown = [(len(words & theme.words), phrase) for phrase, theme in themes().items()]
    most, phrase = max(shown)
    return phrase if most else None
