"""How long prompts and answers of a domain are, counted on some of its users before anything is asked."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from deeper_assets.method.asking import json_mark, ratings_schema
from deeper_assets.method.domains import Domain
from deeper_assets.method.histories import History
from deeper_assets.method.prompts import Prompts, RatedItem

_Build = Callable[[Prompts, Domain, Sequence[RatedItem]], str]

_OF_ONE_WINDOW: Mapping[str, _Build] = {
    "initial_persona": lambda prompts, domain, window: prompts.initial_persona(domain, window),
    "prediction": lambda prompts, domain, window: prompts.prediction(
        domain, "", [item.title for item in window]
    ),
    "refinement": lambda prompts, domain, window: prompts.refinement(
        domain, "", window, [item.rating for item in window]
    ),
    "slide_regen": lambda prompts, domain, window: prompts.slide_regen(domain, window),
    "inc_update": lambda prompts, domain, window: prompts.inc_update(domain, "", window),
    "short_term_persona": lambda prompts, domain, window: prompts.short_term_persona(domain, window),
    "merge_personas": lambda prompts, domain, window: prompts.merge_personas(domain, "", ""),  # noqa: ARG005
}
"""Prompts with nothing where a persona stands: its tokens are added to theirs."""


@dataclass(frozen=True)
class PromptLengths:
    """Mean tokens of a domain's prompts and answers.

    Attributes:
        domain: item type and scale.
        prompts: the templates.
        sample: histories of some users.
        count: tokens of a text.
        frame: tokens that a request has beside its text.
    """

    domain: Domain
    prompts: Prompts
    sample: Sequence[History]
    count: Callable[[str], int]
    frame: int
    _known: dict[tuple[str, int], float] = field(default_factory=dict)

    def prompt(self, name: str, windows: int) -> float:
        """Mean tokens of a prompt without the personas in it.

        Args:
            name: of the template.
            windows: how many it shows; of each user, the first ones if several, else every single one.
        """
        key = (name, windows)
        if key not in self._known:
            texts = [text for history in self.sample for text in self._texts(name, windows, history)]
            self._known[key] = self.frame + _mean(self.count(text) for text in texts)
        return self._known[key]

    @cached_property
    def ratings(self) -> float:
        """Mean tokens of predicted ratings of a window: JSON without spaces, in the form of the schema."""
        return _mean(
            self.count(_json({"ratings": [_rated(item) for item in window]}))
            for history in self.sample
            for window in history.values()
        )

    @cached_property
    def schema(self) -> int:
        """Tokens of the ratings' schema, as JSON."""
        return self.count(_json(ratings_schema(self.domain.scale)))

    def _texts(self, name: str, windows: int, history: History) -> Iterator[str]:
        if name == "full_regen":
            yield self.prompts.full_regen(self.domain, [history[w] for w in sorted(history)[:windows]])
        else:
            yield from (
                _OF_ONE_WINDOW[name](self.prompts, self.domain, window) for window in history.values()
            )


def _rated(item: RatedItem) -> Mapping[str, str | float]:
    return {"item": item.title, "rating": json_mark(item.rating)}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _mean(values: Iterator[int]) -> float:
    counted = list(values)
    return fmean(counted) if counted else 0.0
