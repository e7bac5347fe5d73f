"""Controls: predictions of the same chat model for the same windows, with something else for the persona.

Not in the paper. They tell what in a persona it is that predicts. If one sentence about marking does as well,
the tastes in a persona carry nothing; if another person's persona does, it holds nothing of this person; if
the ratings themselves do better, the text has lost something on the way.

As a method predicts window r + 1 in round r, so does a control, from nothing later than window r.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import pandas as pd

from deeper_assets.method.asking import ChatSetup, ask_ratings, rated_items
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.histories import histories, places
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.rounds import ROUNDS
from deeper_assets.method.windows import stable_hash

HABIT, SHUFFLED, HISTORY, NONE = "control_habit", "control_shuffled", "control_history", "control_none"

CONTROLS: dict[str, str] = {
    HABIT: "one sentence about marking, from the median of the user's ratings in all windows so far",
    SHUFFLED: "the persona that the main method wrote of another evaluation user, in the same round",
    HISTORY: "the user's ratings of all windows so far, as they are",
    NONE: "a sentence which says that nothing is known",
}
"""Name of a control → what stands in the persona's place."""

HABITS: Mapping[float, str] = {
    1.0: "gives the highest mark to nearly everything",
    0.875: "gives either the highest mark or the one just below it",
    0.75: "gives high marks but seldom the highest mark",
    0.625: "gives marks slightly above the middle",
    0.5: "gives marks in the middle of the scale",
    0.375: "gives marks slightly below the middle",
    0.25: "gives low marks but seldom the lowest mark",
    0.125: "gives either the lowest mark or the one just above it",
    0.0: "gives the lowest mark to nearly everything",
}
"""Level, a fraction of the scale (0 the lowest mark, 1 the highest) → words, without a number."""

NOTHING_KNOWN = "Nothing is known about this person."

PREDICTION_COLUMNS = [
    *("domain", "control", "user_id", "round", "window", "place", "persona_of"),
    *("predicted", "placed", "note", "attempts", "model"),
]


@dataclass(frozen=True)
class Donor:
    """Another user, and that user's persona of the same round."""

    user_id: str
    persona: str


@dataclass(frozen=True)
class _Turn:
    """A user in a round: the windows so far, oldest first, and the window to predict."""

    user_id: str
    round: int
    history: Sequence[Sequence[RatedItem]]
    ahead: Sequence[RatedItem]


def control_predictions(
    windows: pd.DataFrame, personas: pd.DataFrame, control: str, domain: Domain, chat: ChatSetup
) -> pd.DataFrame:
    """What one control predicts for one domain's evaluation users.

    Args:
        windows: rating_windows rows of the domain (training users are left out here).
        personas: persona_rounds rows of the domain and one method; `control_shuffled` alone needs them.
        control: its name.
        domain: that domain.
        chat: chat model and prompts.

    Returns:
        PREDICTION_COLUMNS, by user and round: one row a usable rating of each window r + 1, as
        round_predictions has them. `persona_of` is the user whose persona it is that was shuffled in. Where
        no other user has one, nothing is asked, and predicted is NaN.
    """
    windows = windows[windows["split"] == "eval"]
    personas = personas[personas["user_id"].isin(windows["user_id"])]  # of nobody whose history is short
    turns, at = _turns(windows), places(windows)
    donors: dict[tuple[str, int], Donor] = {}
    if control == SHUFFLED:
        donors = shuffled(personas, [(turn.user_id, turn.round) for turn in turns], domain.name)
    given = [donors.get((turn.user_id, turn.round)) for turn in turns]
    prompts = [
        _prompt(control, chat.prompts, domain, turn, donor) for turn, donor in zip(turns, given, strict=True)
    ]
    asked = [(prompt, turn.ahead) for prompt, turn in zip(prompts, turns, strict=True)]
    rows: list[tuple[object, ...]] = []
    for turn, donor, reply in zip(turns, given, ask_ratings(chat, domain, asked), strict=True):
        held = at[turn.user_id, turn.round + 1]
        of = donor.user_id if donor else None
        for place, rated in zip(held, rated_items(reply, len(held)), strict=True):
            row = (domain.name, control, turn.user_id, turn.round, turn.round + 1, place, of)
            rows.append((*row, *rated, reply.note, reply.attempts, chat.model.name))
    return pd.DataFrame(rows, columns=PREDICTION_COLUMNS).astype({"predicted": "float64"})


def _turns(windows: pd.DataFrame) -> list[_Turn]:
    return [
        _Turn(user, round_, [own[w] for w in range(round_ + 1) if w in own], own[round_ + 1])
        for user, own in histories(windows).items()
        for round_ in range(ROUNDS + 1)
        if round_ + 1 in own
    ]


def _prompt(control: str, prompts: Prompts, domain: Domain, turn: _Turn, donor: Donor | None) -> str | None:
    """The complete prompt of a control; None where there is no persona to shuffle in."""
    titles = [item.title for item in turn.ahead]
    if control == HISTORY:
        return prompts.prediction_from_ratings(domain, turn.history, titles)
    persona: str | None = NOTHING_KNOWN
    if control == SHUFFLED:
        persona = donor.persona if donor else None
    elif control == HABIT:
        ratings = [item.rating for window in turn.history for item in window]
        persona = habit_sentence(ratings, domain.scale)
    return None if persona is None else prompts.prediction(domain, persona, titles)


def habit_sentence(ratings: Sequence[float], scale: Scale) -> str:
    """How high somebody marks, in words: the level of HABITS that is nearest to the median of the ratings."""
    level = scale.share(median(ratings))
    nearest = min(HABITS, key=lambda known: abs(known - level))
    return f"As a rule this person {HABITS[nearest]}."


def shuffled(
    personas: pd.DataFrame, wanted: Sequence[tuple[str, int]], domain: str
) -> dict[tuple[str, int], Donor]:
    """For each user and round the persona of another user, of the same round.

    Users stand in a circle, in the order of a hash of domain and user, and everybody is given the persona of
    the next one who has any. So where all have one, each is given away once and nobody gets their own.

    Args:
        personas: persona_rounds rows of one domain and method.
        wanted: users and rounds.
        domain: name of the domain.

    Returns:
        Those of `wanted` for whom there is another user with a persona in the round.
    """

    def stands(user: str) -> tuple[int, str]:
        return stable_hash(SHUFFLED, domain, user), user

    donors: dict[tuple[str, int], Donor] = {}
    readable = personas.dropna(subset=["persona"])
    for round_, rows in readable.groupby("round"):
        written = dict(zip(rows["user_id"], rows["persona"], strict=True))
        circle = sorted(map(stands, written))
        for user, own in (place for place in wanted if place[1] == round_):
            _, other = circle[bisect_right(circle, stands(user)) % len(circle)]
            if other != user:
                donors[user, own] = Donor(other, written[other])
    return donors
