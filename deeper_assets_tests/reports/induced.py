"""A user's personas after window 1, by hand: one rests on three memories, and one has ended."""

import pandas as pd

MOMENT = pd.Timestamp("2021-03-05 17:02:11")

SETS = pd.DataFrame(
    [
        *((0, 0, "new", "dragons", "An older text.", 1, 1, 0.5, 0.25, 0.01),),
        *((1, 0, "changed", "dragons", "Was after <b>dragons</b>.", 3, 2, 0.75, 0.25, 0.001),),
        *((1, 2, "ended", None, None, 2, 2, 0.1, 0.1, 0.5),),
    ],
    columns=[
        *("window", "persona", "state", "label", "description", "memories", "sessions"),
        *("share", "chance", "p_value"),
    ],
).assign(domain="book", inducer="clusters", user_id="u", note=None)
SETS.loc[2, "note"] = "no_json"

MEMBERS = pd.DataFrame(
    [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 0, 3)], columns=["window", "persona", "memory"]
).assign(domain="book", inducer="clusters", user_id="u")

MEMORIES = pd.DataFrame(
    [(0, 0, "old dragons"), (1, 1, "dragons"), (2, 1, "murder"), (3, 1, "more dragons")],
    columns=["memory", "session", "intent"],
).assign(domain="book", user_id="u")

EVIDENCE = pd.DataFrame(
    [(0, 0, 0), (1, 1, 2), (1, 1, 0), (2, 1, 1), (3, 1, 3)], columns=["memory", "session", "event"]
).assign(domain="book", user_id="u")

EVENTS = pd.DataFrame(
    [
        *((0, 0, "Eragon", "log.csv", 7, MOMENT),),
        *((1, 0, "Smaug <i>", "log.csv", 9, MOMENT),),
        *((1, 1, "Poirot", "log.csv", 10, MOMENT),),
        *((1, 2, "Fafnir", "log.csv", 11, None),),
        *((1, 3, "Glaurung", None, None, None),),
    ],
    columns=["session", "event", "text", "file", "line", "happened_at"],
).assign(domain="book", user_id="u", split="eval", kind="rating")
