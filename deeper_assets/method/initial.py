"""Initial personas (Section 3.1): S0 from W0, and S0's predictions."""

import pandas as pd

from deeper_assets.method.asking import ChatSetup, ask_personas, ask_predictions
from deeper_assets.method.domains import Domain
from deeper_assets.method.histories import histories, places


def initial_personas(windows: pd.DataFrame, domain: Domain, chat: ChatSetup) -> pd.DataFrame:
    """S0 of every user, written from W0.

    Args:
        windows: rating_windows rows of one domain.
        domain: that domain.
        chat: chat model and prompts.

    Returns:
        initial_personas rows, one a user.
    """
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


INITIAL_WINDOWS = {"train": (0, 1, 2), "eval": (1,)}
"""Windows that S0 predicts: a training context (S0, O1) needs the previous, current and future window of its
rewards; evaluation needs the first window ahead."""


def initial_predictions(
    windows: pd.DataFrame, personas: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> pd.DataFrame:
    """S0's predictions for the windows in INITIAL_WINDOWS.

    Args:
        windows: rating_windows rows of one domain.
        personas: initial_personas rows of the same users.
        domain: that domain.
        chat: chat model and prompts.

    Returns:
        initial_predictions rows, one a predicted rating.
    """
    users, at = histories(windows), places(windows)
    wanted = [
        (str(row["user_id"]), str(row["split"]), window, persona if isinstance(persona, str) else None)
        for row in personas.sort_values("user_id").to_dict("records")
        for persona in [row["persona"]]
        for window in INITIAL_WINDOWS[row["split"]]
        if window in users[row["user_id"]]
    ]
    replies = ask_predictions(
        chat, domain, [(persona, users[user][window]) for user, _, window, persona in wanted]
    )
    rows = [
        (domain.name, user, split, window, place, rating, reply.note, reply.attempts, chat.model.name)
        for (user, split, window, _), reply in zip(wanted, replies, strict=True)
        for place, rating in zip(at[user, window], reply.value or [None] * len(at[user, window]), strict=True)
    ]
    columns = ["domain", "user_id", "split", "window", "place", "predicted", "note", "attempts", "model"]
    return pd.DataFrame(rows, columns=columns).astype({"predicted": "float64"})
