import pandas as pd

from deeper_assets.method.domains import find_domain
from deeper_assets.method.induction.events import events_of_log, events_of_ratings, sessions_of_log
from deeper_assets.method.windows import UserSampling, stable_share

BOOK = find_domain("book")


def test_ratings_are_events_and_their_sign_is_against_the_median_so_far() -> None:
    ratings = [("u", 0, 0, 4.0), ("u", 0, 1, 2.0), ("u", 0, 3, 3.0), ("u", 1, 0, 5.0), ("v", 0, 0, 1.0)]
    windows = pd.DataFrame(ratings, columns=["user_id", "window", "place", "rating"]).assign(
        domain="book", split="train", title="T", item_id="i", rated_at=pd.Timestamp("2020-01-01")
    )
    raw = pd.DataFrame(
        [("u", 3, "a.csv", 8), ("u", 10, "a.csv", 9), ("u", None, "a.csv", 7), ("v", 0, None, None)],
        columns=["user_id", "position", "file", "line"],
    )
    done = events_of_ratings(windows.sample(frac=1, random_state=2), raw, size=10)
    told = done[["user_id", "session", "event", "window", "sign", "line"]]
    assert told.astype(object).where(told.notna(), None).values.tolist() == [
        ["u", 0, 0, 0, 0, None],  # the median of 4
        ["u", 0, 1, 0, -1, None],  # 2 against the median of 4 and 2
        ["u", 0, 2, 0, 0, 8],  # 3 of 4, 2, 3
        ["u", 1, 0, 1, 1, 9],  # 5 against 3.5
        ["v", 0, 0, 0, 0, None],
    ]
    assert set(done["kind"]) == {"rating"}


def log(*rows: tuple[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "time"])
    return frame.assign(happened_at=pd.to_datetime("2020-01-01 " + frame.pop("time")), text="T")


def test_a_session_ends_after_silence() -> None:
    cut = sessions_of_log(
        log(("v", "09:00"), ("u", "10:31"), ("u", "10:00"), ("u", "10:30"), ("u", "11:02"), ("v", "09:10")),
        30,
    )
    assert cut[["user_id", "session", "event"]].values.tolist() == [
        ["u", 0, 0],
        ["u", 0, 1],  # exactly thirty minutes
        ["u", 0, 2],
        ["u", 1, 0],
        ["v", 0, 0],
        ["v", 0, 1],
    ]


def test_four_sessions_make_a_window() -> None:
    cut = sessions_of_log(log(*[("u", f"{hour:02}:00") for hour in range(9)]), 30)
    assert list(cut["window"]) == [0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_those_take_part_who_would_with_ratings() -> None:
    users = [f"u{number}" for number in range(40)]
    rows = log(*[(user, "10:00") for user in users])
    share = {user: stable_share(7, "book", user) for user in users}
    done = events_of_log(rows, BOOK, 30, UserSampling(seed=7, train_share=0.25, train_users=3, eval_users=5))
    by_share = sorted(users, key=lambda user: share[user])
    expected = dict.fromkeys(by_share[:3], "train")
    expected |= dict.fromkeys([user for user in by_share if share[user] >= 0.25][:5], "eval")
    assert dict(zip(done["user_id"], done["split"], strict=True)) == expected
    unseen = events_of_log(rows, BOOK, 30, UserSampling(seed=7, train_share=0.25, seen=False))
    assert set(unseen["split"]) == {"train", "eval"}, "others are compared with them"
