"""Recipes: how a policy is trained (Section 3.2, Tables 18–21 for the paper's own ablations).

A recipe says what counts as better (weights), what is compared (pairs or whole groups) and how iteration 2
goes on from iteration 1. How hard the optimizer works is `Training`, the same for every recipe. A recipe may
be trained several times, each time with a seed of its own: `balanced`, `balanced_seed_2` and so on.

Departs from the paper: `balanced`, the default, compares all candidates of a context (and where it draws
pairs, sets no bounds). In iteration 2 a persona that is already good has no candidate with a reward of 0.5,
so the paper's bounds leave nothing that teaches the policy to leave it alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How one policy is trained.

    Attributes:
        weights: of the rewards on the previous, current and future window; a candidate's reward is their sum.
        template: name of the prompt template that the policy gets.
        loss: DPO on pairs, or on all candidates of a context: LiPO-λ or the softmax form of S-DPO.
        chosen_at_least: the least reward of a chosen candidate, rating points; None without a bound.
        rejected_at_most: the highest reward of a rejected one; None without a bound.
        margin_1, margin_2: by how much chosen must beat rejected in iterations 1 and 2, rating points.
        pairs_at_most: pairs of one context at most.
        replay: pairs (or groups) of iteration 1 that join iteration 2, as a share of iteration 2's own.
        replay_margin: only those whose margin (in a group: best minus worst) is above it, rating points.
        reference: what iteration 2 is held to: the policy it starts from (Model 1), or the base policy.
    """

    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    template: Literal["refinement", "inc_update"] = "refinement"
    loss: Literal["pairwise", "lipo", "softmax"] = "pairwise"
    chosen_at_least: float | None = 0.5
    rejected_at_most: float | None = 0.0
    margin_1: float = 0.5
    margin_2: float = 0.8
    pairs_at_most: int = 4
    replay: float = 0.175
    replay_margin: float = 0.8
    reference: Literal["start", "base"] = "start"


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "future_only": Recipe(weights=(0.0, 0.0, 1.0)),
    "decayed": Recipe(weights=(0.25, 0.5, 1.0)),
    "inc_ft": Recipe(template="inc_update"),
    "balanced": Recipe(
        loss="lipo",
        chosen_at_least=None,
        rejected_at_most=None,
        margin_1=0.1,
        margin_2=0.1,
        replay_margin=0.1,
    ),
}
"""The built-in recipes. The paper's: 5,000 pairs of iteration 1 join the 28,612 of iteration 2."""

DEFAULT_RECIPE = "balanced"
"""The recipe of the methods `deeper` and `deeper_iteration_1`."""


_REPEATED = re.compile(r"(.+)_seed_([2-9]|[1-9]\d+)")
_TAKEN = re.compile(r"iteration_1|(.+_)?seed_\d+")


def trainings_of(recipe: str, seeds: int) -> list[str]:
    """The names of a recipe's trainings: the first has the recipe's own name."""
    return [_named(recipe, number) for number in range(1, seeds + 1)]


def training_of(name: str) -> tuple[str, int]:
    """Of a training, or of the method that it makes: the name without a number, and the number (1-based)."""
    repeated = _REPEATED.fullmatch(name)
    return (repeated[1], int(repeated[2])) if repeated else (name, 1)


def is_taken(recipe: str) -> bool:
    """Whether a recipe of this name could be mistaken for a training, or its method for another one's."""
    return _TAKEN.fullmatch(recipe) is not None


def _named(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_seed_{number}"


def policy_methods(trainings: Iterable[str]) -> dict[str, tuple[str, int]]:
    """The evaluated methods whose personas a trained policy writes: method → training and iteration.

    Those of the default recipe are called `deeper` and `deeper_iteration_1`, any other `deeper_<recipe>`;
    those of its second training `deeper_seed_2`, `deeper_iteration_1_seed_2` and `deeper_<recipe>_seed_2`.
    """
    methods: dict[str, tuple[str, int]] = {}
    for name in trainings:
        recipe, number = training_of(name)
        if recipe == DEFAULT_RECIPE:
            for method, iteration in (("deeper", 2), ("deeper_iteration_1", 1)):
                methods[_named(method, number)] = (name, iteration)
        else:
            methods[_named(f"deeper_{recipe}", number)] = (name, 2)
    return methods


@dataclass(frozen=True)
class Training:
    """How hard the optimizer works, the same for every recipe. The defaults are the paper's (Appendix).

    Attributes:
        beta: of DPO: how strongly the policy is held to the reference.
        sft_weight: α of the negative log-likelihood of the chosen persona that is added to the loss.
        lora_rank, lora_alpha, lora_dropout: of the adapter, on all linear layers.
        max_length: tokens of prompt and persona together; longer examples are left out, and counted.
        batch_size: examples (pairs or groups) an optimizer step, over all devices.
        examples_at_once: examples that one device holds at a time.
        learning_rate: its highest value; the schedule is a cosine.
        warmup: optimizer steps until it is reached; below 1, as a share of all steps.
        epochs: passes over the examples.
        max_grad_norm: gradients are scaled down to it.
        evaluate_every: optimizer steps between looks at the validation examples.
        validation_share: share of users whose examples validate and do not train.
        bf16: half precision (GPU).
    """

    beta: float = 0.2
    sft_weight: float = 0.1
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.2
    max_length: int = 2048
    batch_size: int = 128
    examples_at_once: int = 4
    learning_rate: float = 5e-6
    warmup: float = 250
    epochs: float = 4
    max_grad_norm: float = 1.0
    evaluate_every: int = 100
    validation_share: float = 0.1
    bf16: bool = True

    def impossible(self) -> str | None:
        """Why no training can be like this; None where one can."""
        for name, value in asdict(self).items():
            if value < 0:
                return f"training.{name} is {value}; it must not be negative"
            if value == 0 and name in _ABOVE_ZERO:
                return f"training.{name} is {value}; it must be above 0"
        return None


_ABOVE_ZERO = ("batch_size", "examples_at_once", "epochs", "learning_rate", "lora_rank", "evaluate_every")
