"""Contexts (Section 3.2): an old persona and what was observed since, as the prompt that a policy refines by.

Round 1 is (S0, O1), of every training user. Round 2 is (S1, O2), where S1 is what Model 1 makes of round 1.
A context of round t has the predictions of its persona S(t-1) on the previous, current and future window,
W(t-1), W(t) and W(t+1), beside it: the old side of every reward, and what a refinement prompt shows of W(t).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from deeper_assets.method.asking import NO_PERSONA, ChatSetup, predict_windows
from deeper_assets.method.domains import Domain
from deeper_assets.method.frames import stacked, text_in
from deeper_assets.method.histories import History, histories
from deeper_assets.method.prompts import Prompts, RatedItem

CONTEXT_COLUMNS = ["domain", "template", "user_id", "round", "prompt", "persona", "note", "model"]
PREDICTION_COLUMNS = [
    *("domain", "template", "user_id", "round", "window", "place"),
    *("predicted", "placed", "note", "attempts", "model"),
]

_Write = Callable[[Prompts, Domain, str, Sequence[RatedItem], Sequence[float]], str]

PROMPTS: Mapping[str, _Write] = {
    "refinement": lambda prompts, domain, persona, window, predicted: prompts.refinement(
        domain, persona, window, predicted
    ),
    "inc_update": lambda prompts, domain, persona, window, _: prompts.inc_update(domain, persona, window),
}
"""What a policy is asked, by the `template` of a recipe. Only refinement shows predictions."""


@dataclass(frozen=True)
class Contexts:
    """Contexts and what their personas predict.

    Attributes:
        contexts: CONTEXT_COLUMNS, one row a user and round. `prompt` is None where nothing can be sampled,
            and `note` says why; `model` wrote the persona.
        predictions: PREDICTION_COLUMNS, one row a rating of each window that the context's rewards need.
    """

    contexts: pd.DataFrame
    predictions: pd.DataFrame


def surrounding(round_: int) -> tuple[int, int, int]:
    """The previous, current and future window of a context's rewards."""
    return round_ - 1, round_, round_ + 1


def initial_contexts(
    windows: pd.DataFrame,
    personas: pd.DataFrame,
    predictions: pd.DataFrame,
    domain: Domain,
    prompts: Prompts,
    templates: Sequence[str],
) -> Contexts:
    """(S0, O1) of every training user who has W1 and at least one window beside it, for each template.

    Args:
        windows: rating_windows rows of one domain.
        personas: initial_personas rows: S0.
        predictions: initial_predictions rows, which are used as they are: nothing is asked.
        domain: that domain.
        prompts: these templates at least.
        templates: keys of PROMPTS, one or several.
    """
    personas = personas[personas["split"] == "train"]
    users = _learning(personas, histories(windows), 1)
    predictions = predictions[predictions["user_id"].isin(users)].assign(round=1)
    return _joined(
        [
            _contexts(users, personas, predictions.assign(template=one), domain, prompts, one, 1)
            for one in templates
        ]
    )


def refined_personas(contexts: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """S1 of every user with a context of round 1: what Model 1 wrote, where it can be used.

    Args:
        contexts: contexts of round 1 of one domain.
        candidates: `sample_candidates` of these contexts by Model 1, one sample each.

    Returns:
        One row a user: domain, user_id, persona (None where there is no usable one), note (why there is
        none), model (who was asked; None where nobody was).
    """
    written = {row["user_id"]: row for row in candidates.to_dict("records")}
    rows: list[tuple[object, ...]] = []
    for context in contexts.sort_values("user_id").to_dict("records"):
        domain, user = context["domain"], context["user_id"]
        sample = written.get(user)
        if sample is None:
            rows.append((domain, user, None, context["note"], None))
        else:
            reason = text_in(sample["unusable"])
            rows.append((domain, user, None if reason else sample["persona"], reason, sample["model"]))
    return pd.DataFrame(rows, columns=["domain", "user_id", "persona", "note", "model"])


def next_contexts(
    windows: pd.DataFrame, personas: pd.DataFrame, domain: Domain, chat: ChatSetup, template: str
) -> Contexts:
    """(S1, O2) of every user with an S1 row who has W2 and at least one window beside it.

    The frozen chat model is asked once, what every S1 predicts for W1, W2 and W3. `windows` are the domain's
    rating_windows, `personas` are `refined_personas` rows, and `template` is a key of PROMPTS.
    """
    users = _learning(personas, histories(windows), 2)
    personas = personas[personas["user_id"].isin(users)].sort_values("user_id")
    asked = personas[["domain", "user_id", "persona"]].assign(template=template, round=2)
    asked = asked.assign(window=asked["round"].map(surrounding))
    predictions = predict_windows(chat, domain, windows, asked)
    return _contexts(users, personas, predictions, domain, chat.prompts, template, 2)


def of_template(rows: pd.DataFrame, template: str) -> pd.DataFrame:
    """The rows of iteration 1 that belong to one prompt template: those a recipe with it learns from."""
    return rows[rows["template"] == template]


def of_domains(rows: pd.DataFrame, domains: Sequence[str]) -> pd.DataFrame:
    """Rows of some domains: others may have been sampled while they still trained."""
    return rows[rows["domain"].isin(domains)]


def of_recipe(recipe: str, *rounds: Contexts) -> Contexts:
    """The contexts of iteration 2: those of both rounds, under the name of the recipe whose model samples."""
    both = _joined(rounds)
    named = [
        frame.assign(template=recipe).rename(columns={"template": "recipe"})
        for frame in (both.contexts, both.predictions)
    ]
    return Contexts(*named)


def _joined(parts: Sequence[Contexts]) -> Contexts:
    return Contexts(stacked([part.contexts for part in parts]), stacked([part.predictions for part in parts]))


def _learning(personas: pd.DataFrame, history: Mapping[str, History], round_: int) -> Mapping[str, History]:
    """The users with a window to learn from and another that measures what was learned, sorted."""
    before, now, after = surrounding(round_)
    return {
        user: history[user]
        for user in sorted(personas["user_id"])
        if now in history[user] and (before in history[user] or after in history[user])
    }


def _contexts(
    users: Mapping[str, History],
    personas: pd.DataFrame,
    predictions: pd.DataFrame,
    domain: Domain,
    prompts: Prompts,
    template: str,
    round_: int,
) -> Contexts:
    predictions = predictions.sort_values(["user_id", "window", "place"], ignore_index=True)
    written = {row["user_id"]: row for row in personas.to_dict("records")}
    current = dict(iter(predictions[predictions["window"] == round_].groupby("user_id")))
    rows: list[tuple[object, ...]] = []
    for user, history in users.items():
        persona, model = text_in(written[user]["persona"]), text_in(written[user]["model"])
        guesses = current[user]
        prompt = note = None
        if persona is None:
            why = text_in(written[user]["note"]) or "not_asked"
            note = f"{NO_PERSONA}: {why.removeprefix(f'{NO_PERSONA}: ')}"
        elif template == "refinement" and guesses["predicted"].isna().any():
            note = f"no_prediction: {text_in(guesses['note'].iloc[0])}"
        else:
            prompt = PROMPTS[template](prompts, domain, persona, history[round_], list(guesses["predicted"]))
        rows.append((domain.name, template, user, round_, prompt, persona, note, model))
    return Contexts(
        pd.DataFrame(rows, columns=CONTEXT_COLUMNS).astype({"round": "int64"}),
        predictions[PREDICTION_COLUMNS].astype(
            {"predicted": "float64", "round": "int64", "window": "int64", "place": "int64"}
        ),
    )
