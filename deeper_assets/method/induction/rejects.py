"""Why events and users of a log fell out, and what of settings or source would change it."""

from collections.abc import Mapping

import pandas as pd

from deeper_assets.method.windows import UserSampling

REASONS: Mapping[str, str] = {
    # given by a log's reader, with the detail
    "malformed_line": "the line does not fit its file's format",
    "missing_user": "no user is named",
    "unreadable_order": "its place in the user's order cannot be read",
    "unreadable_time": "the time when it happened cannot be read",
    "missing_session": "no session is named",
    "unreadable_sign": "the sign is no number",
    "unusable_text": "an id, the kind or the text holds a NUL or half a character, or is too long",
    # given where the log is cut
    "empty_text": "it has no text",
    "no_events": "the user has no usable event",
}

WAYS_OUT: Mapping[str, str] = {
    "malformed_line": "correct the line in its file",
    "missing_user": "events.user, or correct the rows",
    "unreadable_order": "events.order, or correct the rows",
    "unreadable_time": "events.time, or correct the rows",
    "missing_session": "events.session, or correct the rows",
    "unreadable_sign": "events.sign, or correct the rows",
    "unusable_text": "the columns of events, or correct the rows",
    "empty_text": "events.text, or correct the rows",
    "no_events": "what the user's events were rejected for",
}
"""What would change a rejection, by its reason."""


def why_nobody_has_events(events: pd.DataFrame, counts: pd.DataFrame, sampling: UserSampling) -> str:
    """Why a domain has no evaluation user with events, with the setting that would change it.

    Args:
        events: rows of `events` of the domain, none of them of an evaluation user.
        counts: reason, users and (as `ratings`) events of what a log's reader rejected, the most first.
        sampling: who takes part.
    """
    if trained := events["user_id"].nunique():
        return f"all {trained:,} users train; lower train_share ({sampling.train_share:g})"
    if counts.empty:
        return "the source holds no events"
    most = counts.iloc[0]
    way = WAYS_OUT[str(most["reason"])]
    return f"{most['reason']}: {most['users']:,} users, {most['ratings']:,} events (change {way})"
