"""Users' histories: rating_windows rows as items by user and window, ready for prompts."""

from collections.abc import Mapping, Sequence

import pandas as pd

from deeper_assets.method.prompts import RatedItem

History = Mapping[int, Sequence[RatedItem]]
"""One user's usable ratings by window; a window without any is absent."""


def histories(windows: pd.DataFrame) -> dict[str, dict[int, tuple[RatedItem, ...]]]:
    """Ratings by user and window.

    Args:
        windows: user_id, window, place, title, rating (rating points), in any order.

    Returns:
        user id -> window -> items in time order; users sorted, so that the order of rows changes nothing.
    """
    ordered = windows.sort_values(["user_id", "window", "place"])
    users: dict[str, dict[int, list[RatedItem]]] = {}
    columns = (ordered[name] for name in ("user_id", "window", "title", "rating"))
    for user, window, title, rating in zip(*columns, strict=True):
        users.setdefault(user, {}).setdefault(int(window), []).append(RatedItem(title, float(rating)))
    return {user: {w: tuple(items) for w, items in history.items()} for user, history in users.items()}


def places(windows: pd.DataFrame) -> dict[tuple[str, int], list[int]]:
    """The places of each user's window that hold a usable rating, in order."""
    ordered = windows.sort_values(["user_id", "window", "place"])
    held: dict[tuple[str, int], list[int]] = {}
    for user, window, place in zip(ordered["user_id"], ordered["window"], ordered["place"], strict=True):
        held.setdefault((user, int(window)), []).append(int(place))
    return held
