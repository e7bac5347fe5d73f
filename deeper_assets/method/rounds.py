"""Rounds of evaluation (Section 4.2, Tables 13–17): update a persona window by window, predict the next one.

Round 0 is the initial persona S0, written from W0. Round r = 1 … 4 updates S(r-1) with window W_r, in the
way of a method, and every round is measured by ε(r+1|S_r).

Departs from the paper: a user counts in the rounds whose windows exist (the paper speaks of five windows but
reports ε5, which needs a sixth). An update without a usable persona (`judging`) keeps the old one for that
round, marked and counted: so a user who has had a persona stands in every method's row, in every round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from deeper_assets.method.asking import NO_PERSONA, ChatSetup, Reply, ask_predictions, rated_items
from deeper_assets.method.domains import Domain
from deeper_assets.method.frames import text_in
from deeper_assets.method.histories import History, histories, places
from deeper_assets.method.placing import PlacedRatings
from deeper_assets.method.updates import Observation, UpdateMethod

ROUNDS = 4
"""Rounds of update after the initial persona, as in the paper."""

KEPT = "kept: "
"""How the note of an old persona begins that is a later round's too; the reason follows."""

NOTHING_TO_LEARN = f"{KEPT}the window has no usable rating"
"""The one such note that is nobody's failure: every method keeps its persona there, so it is not counted."""

_KEY = ["domain", "method", "user_id", "round"]
PERSONA_COLUMNS = [*_KEY, "persona", "note", "attempts", "model"]
PREDICTION_COLUMNS = [
    *(*_KEY, "window", "place"),
    *("predicted", "placed", "note", "attempts", "model"),
]


@dataclass(frozen=True)
class Rounds:
    """What was played: rows of `persona_rounds` and of `round_predictions`."""

    personas: pd.DataFrame
    predictions: pd.DataFrame


def play_rounds(
    windows: pd.DataFrame,
    personas: pd.DataFrame,
    predictions: pd.DataFrame,
    method: str,
    update: UpdateMethod,
    domain: Domain,
    chat: ChatSetup,
) -> Rounds:
    """Plays the rounds of one method on one domain's evaluation users, and on those with short histories.

    Args:
        windows: rating_windows rows of the domain (training users are left out here).
        personas: initial_personas rows: S0.
        predictions: initial_predictions rows: S0's predictions for W1.
        method: name of the method.
        update: how it updates a persona.
        domain: that domain.
        chat: chat model and prompts.

    Returns:
        One persona row a user and round r that the user's windows reach, one prediction row a usable rating
        of window r + 1. Both in the order of rounds and users, whatever the order of the rows given.
    """
    windows = windows[windows["split"] != "train"]
    game = _Game(method, update, domain, chat, places(windows))
    players = [_Player(user, history) for user, history in histories(windows).items()]
    game.begin(players, personas, predictions)
    for round_ in range(1, ROUNDS + 1):
        here = [player for player in players if max(player.history) >= round_]
        game.update(here, round_)
        game.predict(here, round_)
    return Rounds(
        pd.DataFrame(game.persona_rows, columns=PERSONA_COLUMNS),
        pd.DataFrame(game.prediction_rows, columns=PREDICTION_COLUMNS).astype({"predicted": "float64"}),
    )


def kept(personas: pd.DataFrame) -> "pd.Series[bool]":
    """Of each row of persona_rounds, whether its persona is an old one because an update was unusable."""
    notes = personas["note"].fillna("").astype(str)
    return notes.str.startswith(KEPT) & notes.ne(NOTHING_TO_LEARN)


def mark_kept(errors: pd.DataFrame, personas: pd.DataFrame) -> pd.DataFrame:
    """round_errors rows with `kept` (0 or 1, see `kept`), from the persona_rounds rows behind them."""
    marked = personas[_KEY].assign(kept=kept(personas).astype("int64"))
    return errors.merge(marked, on=_KEY, how="left", validate="one_to_one")


def _or_old(reply: Reply[str], persona: str | None) -> Reply[str]:
    """What an update came to: its persona or, where it has none, the old one if there is one, marked."""
    if reply.value is not None or persona is None:
        return reply
    return Reply(persona, f"{KEPT}{reply.note}", reply.attempts)


@dataclass
class _Player:
    """One user on the way through the rounds.

    Attributes:
        persona: the last usable one; None where there was none yet.
        predicted: this round's predictions for the next window; None where unknown.
    """

    user_id: str
    history: History
    persona: str | None = None
    predicted: tuple[float, ...] | None = None


@dataclass
class _Game:
    """One method on one domain: how a round is played, and the rows so far."""

    method: str
    way: UpdateMethod
    domain: Domain
    chat: ChatSetup
    at: Mapping[tuple[str, int], Sequence[int]]
    persona_rows: list[tuple[object, ...]] = field(default_factory=list)
    prediction_rows: list[tuple[object, ...]] = field(default_factory=list)

    def begin(self, players: Sequence[_Player], personas: pd.DataFrame, predictions: pd.DataFrame) -> None:
        """Round 0: S0 and its predictions as they were made before, the same for every method."""
        written = {row["user_id"]: row for row in personas.to_dict("records")}
        predicted = dict(
            iter(predictions[predictions["window"] == 1].sort_values("place").groupby("user_id"))
        )
        for player in players:
            row = written[player.user_id]
            reply = Reply(text_in(row["persona"]), text_in(row["note"]), int(row["attempts"]))
            self._add_persona(player, 0, reply, text_in(row["model"]))
            if 1 in player.history:
                rows = predicted[player.user_id]
                known = PlacedRatings(tuple(rows["predicted"]), tuple(rows["placed"]))
                values = None if rows["predicted"].isna().any() else known
                first = rows.iloc[0]
                answer = Reply(values, text_in(first["note"]), int(first["attempts"]))
                self._add_predictions(player, 0, answer, text_in(first["model"]))

    def update(self, players: Sequence[_Player], round_: int) -> None:
        """Writes S_r for every player; those with nothing to learn from keep the persona they have."""
        learning, observations = [], []
        for player in players:
            obstacle = self._obstacle(player, round_)
            if obstacle is not None:
                self._add_persona(player, round_, Reply(player.persona, obstacle, 0), None)
                continue
            learning.append(player)
            history = [player.history[w] for w in range(round_ + 1) if w in player.history]
            observations.append(
                Observation(player.user_id, round_, player.persona, history, player.predicted)
            )
        replies = self.way.update(self.chat, self.domain, observations)
        writer = self.way.model or self.chat.model.name
        for player, reply in zip(learning, replies, strict=True):
            self._add_persona(player, round_, _or_old(reply, player.persona), writer)

    def predict(self, players: Sequence[_Player], round_: int) -> None:
        """Predicts window r + 1 with S_r for every player who has that window."""
        for player in players:
            player.predicted = None
        ahead = [player for player in players if round_ + 1 in player.history]
        questions = [(player.persona, player.history[round_ + 1]) for player in ahead]
        replies = ask_predictions(self.chat, self.domain, questions)
        for player, reply in zip(ahead, replies, strict=True):
            self._add_predictions(player, round_, reply, self.chat.model.name)

    def _obstacle(self, player: _Player, round_: int) -> str | None:
        if self.way.needs_persona and player.persona is None:
            return NO_PERSONA
        if round_ not in player.history:
            return NOTHING_TO_LEARN
        if self.way.needs_predictions and player.predicted is None:
            return f"{KEPT}no readable prediction to refine by"
        return None

    def _add_persona(self, player: _Player, round_: int, reply: Reply[str], model: str | None) -> None:
        player.persona = reply.value
        row = (self.domain.name, self.method, player.user_id, round_)
        self.persona_rows.append((*row, reply.value, reply.note, reply.attempts, model))

    def _add_predictions(
        self, player: _Player, round_: int, reply: Reply[PlacedRatings], model: str | None
    ) -> None:
        player.predicted = reply.value.ratings if reply.value else None
        places_ = self.at[player.user_id, round_ + 1]
        for place, rated in zip(places_, rated_items(reply, len(places_)), strict=True):
            row = (self.domain.name, self.method, player.user_id, round_, round_ + 1, place)
            self.prediction_rows.append((*row, *rated, reply.note, reply.attempts, model))
