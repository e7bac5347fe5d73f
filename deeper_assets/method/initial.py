"""Initial personas (Section 3.1): S0 from W0, and S0's predictions."""

import pandas as pd

from deeper_assets.method.asking import ChatSetup, ask_personas, predict_windows
from deeper_assets.method.domains import Domain
from deeper_assets.method.histories import histories


def initial_personas(windows: pd.DataFrame, domain: Domain, chat: ChatSetup) -> pd.DataFrame:
    """S0 of every user of a domain's rating_windows, written from W0: initial_personas rows, one a user."""
    users = histories(windows)
    splits = dict(zip(windows["user_id"], windows["split"], strict=True))
    replies = ask_personas(
        chat, [chat.prompts.initial_persona(domain, history[0]) for history in users.values()]
    )
    return pd.DataFrame(
        [
            (domain.name, user, splits[user], reply.value, reply.note, reply.attempts, chat.model.name)
            for user, reply in zip(users, replies, strict=True)
        ],
        columns=["domain", "user_id", "split", "persona", "note", "attempts", "model"],
    )


INITIAL_WINDOWS = {"train": (0, 1, 2), "eval": (1,), "short": (1,)}
"""Windows that S0 predicts: a training context (S0, O1) needs the previous, current and future window of its
rewards; rounds need the first window ahead."""


def initial_predictions(
    windows: pd.DataFrame, personas: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> pd.DataFrame:
    """The predictions of initial_personas for INITIAL_WINDOWS: initial_predictions rows, one a rating."""
    personas = personas.sort_values("user_id")[["domain", "user_id", "split", "persona"]]
    asked = personas.assign(window=personas["split"].map(INITIAL_WINDOWS))
    return predict_windows(chat, domain, windows, asked)
