"""Why users and ratings fell out, on rows counted by hand."""

import pandas as pd

from deeper_assets.method.rejects import WAYS_OUT, why_nobody_is_evaluated
from deeper_assets.method.windows import REASONS, UserSampling, WindowRules

COUNTS = pd.DataFrame(
    [("too_few_windows", 2, 42), ("no_first_window", 1, 3), ("outside_scale", 2, 3), ("missing_user", 0, 1)],
    columns=["reason", "users", "ratings"],
)
NOBODY = pd.DataFrame({"user_id": [], "split": []})


def test_every_reason_says_what_would_change_it() -> None:
    assert set(WAYS_OUT) == set(REASONS)


def test_where_users_fell_out_the_counts_and_settings_are_named() -> None:
    said = why_nobody_is_evaluated(NOBODY, COUNTS, UserSampling(), WindowRules(at_least=6))
    first = "windows_at_least (6), or a source with longer histories"
    assert said == (
        f"too_few_windows: 2 users, 42 ratings (change {first}); "
        "no_first_window: 1 users, 3 ratings (change what the ratings of the user's first window were"
        " rejected for); outside_scale: 2 users, 3 ratings (change the scale of the domain, or correct the"
        " rows); 1 more reasons"
    )


def test_where_all_train_the_share_is_named() -> None:
    windows = pd.DataFrame({"user_id": ["a", "a", "b"], "split": "train"})
    said = why_nobody_is_evaluated(windows, COUNTS, UserSampling(train_share=0.95), WindowRules())
    assert said == (
        "all 2 users train; lower train_share (0.95), or name some as eval in the column that columns.split"
        " names"
    )


def test_where_nobody_fell_out_the_source_is_named() -> None:
    said = why_nobody_is_evaluated(NOBODY, COUNTS.iloc[:0], UserSampling(seen=False), WindowRules())
    assert said.startswith("the source holds no ratings, or only those of training users")
