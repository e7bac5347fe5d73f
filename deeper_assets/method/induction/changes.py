"""Whether sets of personas notice that planted personas begin and end, and leave the others as they are."""

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from deeper_assets.method.induction.sets import Inducer
from deeper_assets.method.statistics import bootstrap_mae

WITHIN = 2
"""Windows after a change in which it may be noticed, beside the window in which it happens."""

COLUMNS = ("domain", "inducer", "user_id", "split", "theme", "change", "window", "noticed")


def planted_changes(
    sets: pd.DataFrame,
    members: pd.DataFrame,
    evidence: pd.DataFrame,
    events: pd.DataFrame,
    personas: pd.DataFrame,
    planted: pd.DataFrame,
    inducer: Inducer,
) -> pd.DataFrame:
    """What becomes of each planted persona in the sets: planted_changes rows.

    A persona of a set is about the theme that half or more of its events belong to.

    - begins: noticed where a persona is about the theme after the window in which it begins, or one of the
      next WITHIN. Only of themes that had none before.
    - ends: noticed where none is any longer after one of these windows. Only of themes that had one before.
    - stays, of themes that hold throughout: noticed where the persona that is about it after the last window
      has the id of the first one that was. Only of themes with one after both.

    Args:
        sets: rows of persona_sets of a domain and inducer.
        members: rows of persona_memories.
        evidence: rows of memory_events.
        events: rows of `events`.
        personas: rows of planted_personas.
        planted: rows of planted_events.
        inducer: whose sets.
    """
    held = _held(sets, members, evidence, planted)
    ends = events.groupby(["user_id", "window"])["happened_at"].max()
    split = dict(zip(events["user_id"], events["split"], strict=True))
    begins = events.groupby("user_id")["happened_at"].min()
    rows = []
    for one in personas.to_dict("records"):
        user, theme = str(one["user_id"]), str(one["theme"])
        moments = ends[user]
        ids = {int(window): held.get((user, int(window)), {}).get(theme) for window in moments.index}
        of = (one["domain"], inducer, user, split[user], theme)
        if one["since"] > begins[user]:
            rows.append((*of, "begins", *_begun(ids, moments, one["since"])))
        if pd.notna(one["until"]):
            rows.append((*of, "ends", *_ended(ids, moments, one["until"])))
        if one["since"] <= begins[user] and pd.isna(one["until"]):
            rows.append((*of, "stays", max(ids), _stayed(ids)))
    known = [row for row in rows if row[-1] is not None]
    return pd.DataFrame(known, columns=list(COLUMNS)).astype({"window": "int64", "noticed": "int64"})


def changes_table(changes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How often changes are noticed, by inducer and kind, over evaluation users: changes_table rows.

    The interval is over users, within their domain; of a user with several personas, the mean counts.
    """
    columns = ["inducer", "change", "personas", "noticed", "noticed_low", "noticed_high"]
    own = changes[changes["split"] == "eval"]
    if own.empty:
        return pd.DataFrame(columns=columns)
    keys = ["inducer", "change", "domain", "user_id"]
    users = own.groupby(keys).agg(error=("noticed", "mean"), personas=("noticed", "size")).reset_index()
    counts = users.groupby(["inducer", "change"])["personas"].sum().reset_index()
    tables = []
    for change, rows in users.groupby("change"):
        means = bootstrap_mae(rows.rename(columns={"inducer": "method"}).assign(round=0), seed)
        tables.append(means.assign(change=change))
    named = {"method": "inducer", "mae": "noticed", "low": "noticed_low", "high": "noticed_high"}
    return pd.concat(tables).rename(columns=named).merge(counts, on=["inducer", "change"])[columns]


def _held(
    sets: pd.DataFrame, members: pd.DataFrame, evidence: pd.DataFrame, planted: pd.DataFrame
) -> dict[tuple[str, int], dict[str, int]]:
    """By user and window: theme → the id of the persona that is about it, the lowest one of several."""
    goes_on = sets.loc[sets["state"] != "ended", ["user_id", "window", "persona"]]
    cited = members.merge(goes_on).merge(evidence, "inner", ["domain", "user_id", "memory"])
    cited = cited.merge(planted, "left", ["domain", "user_id", "session", "event"])
    held: dict[tuple[str, int], dict[str, int]] = {}
    for _, own in cited.groupby(["user_id", "window", "persona"]):
        themes = Counter(own["theme"].dropna())
        user, window, persona = (own[name].iloc[0] for name in ("user_id", "window", "persona"))
        if themes and 2 * max(themes.values()) >= len(own):
            theme = max(sorted(themes), key=lambda name: themes[name])
            held.setdefault((str(user), int(window)), {}).setdefault(theme, int(persona))
    return held


Ids = Mapping[int, int | None]
"""Window → the id of the persona that is about a theme then; None where none is."""


def _since(moments: "pd.Series[pd.Timestamp]", moment: pd.Timestamp) -> int | None:
    """The first window that ends at a moment or after it."""
    after = moments[moments >= moment]
    return int(after.index[0]) if len(after) else None


def _begun(
    ids: Ids, moments: "pd.Series[pd.Timestamp]", since: pd.Timestamp
) -> tuple[int | None, int | None]:
    window = _since(moments, since)
    if window is None or window + WITHIN not in ids or ids.get(window - 1) is not None:
        return window, None
    return window, int(any(ids[window + later] is not None for later in range(WITHIN + 1)))


def _ended(
    ids: Ids, moments: "pd.Series[pd.Timestamp]", until: pd.Timestamp
) -> tuple[int | None, int | None]:
    window = _since(moments, until)
    if window is None or window + WITHIN not in ids or ids.get(window - 1) is None:
        return window, None
    return window, int(any(ids[window + later] is None for later in range(WITHIN + 1)))


def _stayed(ids: Ids) -> int | None:
    first = next((window for window in sorted(ids) if ids[window] is not None), None)
    last = max(ids)
    if first is None or first == last or ids[last] is None:
        return None
    return int(ids[first] == ids[last])
