"""Events: what people did, in sessions. Ratings are events too, a window a session."""

import numpy as np
import pandas as pd

from deeper_assets.method.domains import Domain
from deeper_assets.method.windows import UserSampling, stable_share

SESSIONS_A_WINDOW = 4
"""Of a log: after so many, a set of personas is written. Of ratings, a window is a session."""

RATING = "rating"
"""The kind of an event that is a rating."""

COLUMNS = (
    *("domain", "user_id", "split", "session", "event", "window", "text", "item_id", "kind", "sign"),
    *("happened_at", "file", "line"),
)


def events_of_ratings(windows: pd.DataFrame, raw: pd.DataFrame, size: int) -> pd.DataFrame:
    """The ratings of `windows` as events, a window of `size` ratings a session.

    The sign says how a rating compares with the median of all that the user has given up to it: 1 above, -1
    below, 0 equal. File and line are those of `raw`.

    Args:
        windows: rows of rating_windows.
        raw: rows of raw_ratings of the same domain.
        size: ratings of a window.

    Returns:
        Rows of `events`, by user, session and event.
    """
    events = windows.sort_values(["user_id", "window", "place"]).reset_index(drop=True)
    median = events.groupby("user_id", sort=False)["rating"].expanding().median().to_numpy()
    events = events.assign(
        session=events["window"],
        event=events.groupby(["user_id", "window"], sort=False).cumcount(),
        text=events["title"],
        kind=RATING,
        sign=np.sign(events["rating"].to_numpy() - median).astype(int),
        happened_at=events["rated_at"],
        position=events["window"] * size + events["place"],
    )
    read = raw.loc[raw["position"].notna(), ["user_id", "position", "file", "line"]]
    return events.merge(read, "left", ["user_id", "position"])[list(COLUMNS)]


def events_of_log(log: pd.DataFrame, domain: Domain, silence: float, sampling: UserSampling) -> pd.DataFrame:
    """A log of events about items of a domain, cut in sessions: rows of `events`.

    Of all users those take part who would of a log of ratings: training users by their share, and of each
    split the first ones by `stable_share`. Also where a domain trains no policy, some are training users:
    others are compared with them.

    Args:
        log: user_id, happened_at, text.
        domain: of what the events are about.
        silence: minutes without an event that end a session.
        sampling: who takes part.
    """
    shares = {user: stable_share(sampling.seed, domain.name, user) for user in sorted(set(log["user_id"]))}
    splits = {
        user: "train" if share < sampling.train_share else "eval"
        for user, share in sorted(shares.items(), key=lambda pair: pair[1])
    }
    at_most = {"train": sampling.train_users, "eval": sampling.eval_users}
    taking_part = [
        user
        for split, most in at_most.items()
        for user in [user for user, own in splits.items() if own == split][:most]
    ]
    cut = sessions_of_log(log[log["user_id"].isin(taking_part)], silence)
    given = {"domain": domain.name, "kind": None, "sign": 0, "file": None, "line": None}
    cut = cut.assign(split=cut["user_id"].map(splits), item_id=cut["text"], **given)
    return cut[list(COLUMNS)]


def sessions_of_log(log: pd.DataFrame, silence: float) -> pd.DataFrame:
    """A log cut in sessions: a new one begins after `silence` minutes without an event.

    Args:
        log: user_id, happened_at and others, in any order; events of a user at the same time stay as they
            stand.
        silence: minutes.

    Returns:
        The rows by user and time, with session, event and window, all 0-based.
    """
    log = log.sort_values(["user_id", "happened_at"], kind="stable").reset_index(drop=True)
    waited = log.groupby("user_id", sort=False)["happened_at"].diff()
    begins = waited.isna() | (waited > pd.Timedelta(minutes=silence))
    session = begins.groupby(log["user_id"], sort=False).cumsum() - 1
    event = log.groupby(["user_id", session.rename("session")], sort=False).cumcount()
    return log.assign(session=session, event=event, window=session // SESSIONS_A_WINDOW)
