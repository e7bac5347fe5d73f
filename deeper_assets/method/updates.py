"""The ways to update a persona that the paper compares (Section 4.1, Tables 13-17).

Four of them are prompts to the frozen chat model, and none of these sees predictions, as in the paper. The
others are a policy's: it refines the persona by what was predicted and what was rated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deeper_assets.method.asking import ChatSetup, Reply, ask_personas, ask_policy
from deeper_assets.method.candidates import seeds
from deeper_assets.method.contexts import PROMPTS
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.judging import Shown, judged
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding, Sample, Sampler


@dataclass(frozen=True)
class Observation:
    """What an update may look at, for one user and round.

    Attributes:
        user_id: whose persona it is.
        round: 1-based.
        persona: the last readable persona; None where there was none yet.
        history: the user's windows W0 … W_r, each in time order.
        predicted: the old persona's predictions for W_r, one an item; None where they are unknown.
    """

    user_id: str
    round: int
    persona: str | None
    history: Sequence[Sequence[RatedItem]]
    predicted: Sequence[float] | None

    @property
    def latest(self) -> Sequence[RatedItem]:
        """W_r, the window to learn from."""
        return self.history[-1]


@dataclass(frozen=True)
class UpdateMethod:
    """A way to update personas.

    Attributes:
        update: new personas for a domain's observations, in order.
        templates: names of the prompt templates that it uses.
        needs_persona, needs_predictions: whether an observation without them cannot be updated.
        model: name of the policy that writes; None where the frozen chat model does.
    """

    update: Callable[[ChatSetup, Domain, Sequence[Observation]], list[Reply[str]]]
    templates: tuple[str, ...]
    needs_persona: bool = False
    needs_predictions: bool = False
    model: str | None = None


def _from_prompt(
    write: Callable[[Prompts, Domain, Observation], str],
) -> Callable[[ChatSetup, Domain, Sequence[Observation]], list[Reply[str]]]:
    """An update that is one prompt to the chat model."""

    def update(chat: ChatSetup, domain: Domain, observations: Sequence[Observation]) -> list[Reply[str]]:
        prompts = [write(chat.prompts, domain, seen) for seen in observations]
        return ask_personas(chat, prompts, [seen.persona or "" for seen in observations])

    return update


def _merge_hierarchically(
    chat: ChatSetup, domain: Domain, observations: Sequence[Observation]
) -> list[Reply[str]]:
    """HierMerge: a short-term persona of the latest window, merged into the long-term one."""
    short = ask_personas(
        chat, [chat.prompts.short_term_persona(domain, seen.latest) for seen in observations]
    )
    readable = [i for i, reply in enumerate(short) if reply.value is not None]
    merged = ask_personas(
        chat,
        [
            chat.prompts.merge_personas(domain, observations[i].persona or "", short[i].value or "")
            for i in readable
        ],
        [f"{observations[i].persona}\n{short[i].value}" for i in readable],
    )
    replies = list(short)
    for i, reply in zip(readable, merged, strict=True):
        replies[i] = Reply(reply.value, reply.note, short[i].attempts + reply.attempts)
    return replies


PROMPT_METHODS: dict[str, UpdateMethod] = {
    # writes the persona anew from all windows so far
    "full_regen": UpdateMethod(
        _from_prompt(lambda prompts, domain, seen: prompts.full_regen(domain, seen.history)),
        ("full_regen",),
    ),
    # writes the persona anew from the latest window alone
    "slide_regen": UpdateMethod(
        _from_prompt(lambda prompts, domain, seen: prompts.slide_regen(domain, seen.latest)),
        ("slide_regen",),
    ),
    # updates the old persona with the latest window
    "inc_update": UpdateMethod(
        _from_prompt(
            lambda prompts, domain, seen: prompts.inc_update(domain, seen.persona or "", seen.latest)
        ),
        ("inc_update",),
        needs_persona=True,
    ),
    # merges a short-term persona of the latest window into the old one
    "hier_merge": UpdateMethod(
        _merge_hierarchically,
        ("short_term_persona", "merge_personas"),
        needs_persona=True,
    ),
}
"""The methods that are prompts to the frozen chat model, by name."""

MAIN_METHOD = "deeper"
"""The method that the others are compared with, where it is evaluated."""

FROZEN_POLICY = "frozen_policy"
"""The method whose personas the untrained base policy writes."""


@dataclass(frozen=True)
class PolicyWriting:
    """How a policy writes the personas of a method.

    Attributes:
        template: a key of `contexts.PROMPTS`.
        decoding: how it writes.
        again: how it writes where that gave no usable text. A greedy text would be the same again.
        seed: that of the method's training.
        max_length: see `candidates.CandidateDraw`.
    """

    template: str
    decoding: Decoding
    again: Decoding
    seed: int
    max_length: int | None = None


def by_policy(sampler: Sampler, writing: PolicyWriting) -> UpdateMethod:
    """The update by a policy: one text for each observation, from the prompt that it was trained on.

    Like a chat model, it is asked again where that gave no usable text, `asks` times in all.
    """

    def refine(chat: ChatSetup, domain: Domain, observations: Sequence[Observation]) -> list[Reply[str]]:
        write = PROMPTS[writing.template]
        prompts = [
            write(chat.prompts, domain, seen.persona or "", seen.latest, seen.predicted or ())
            for seen in observations
        ]
        own = [seeds(seen.user_id, seen.round, chat.asks, writing.seed) for seen in observations]

        def read(i: int, sample: Sample) -> str:
            text, reason = judged(sample, Shown.of(prompts[i], observations[i].persona or ""))
            if reason is not None:
                raise UnreadableAnswer(reason)
            return text

        return ask_policy(sampler, prompts, own, (writing.decoding, writing.again), chat.asks, read)

    return UpdateMethod(
        refine,
        (writing.template,),
        needs_persona=True,
        needs_predictions=writing.template == "refinement",
        model=sampler.name,
    )
