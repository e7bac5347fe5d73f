"""What `deeper rejects` prints."""

import pandas as pd

from deeper_assets.method.induction import rejects as of_events
from deeper_assets.reports.rejects import rejects_as_text, shown

DOMAINS = pd.DataFrame(
    {
        "domain": ["films", "songs"],
        "ratings": [1200, 50],
        "users": [12, 1],
        "used": [4, 1],
        "users_rejected": [5, 0],
        "ratings_rejected": [203, 0],
    }
)
COUNTS = pd.DataFrame(
    {
        "domain": "films",
        "reason": ["too_few_windows", "outside_scale"],
        "users": [5, 2],
        "ratings": [200, 3],
    }
)
EXAMPLES = pd.DataFrame(
    {
        "domain": "films",
        "reason": ["outside_scale", "too_few_windows"],
        "file": "r.csv",
        "line": [7.0, 9.0],
        "user_id": ["u\x1b[2J1", "u2"],
        "title": ["T" * 61, None],
        "rating_text": ["7", None],
        "detail": ["7: the scale is from 1 to 5 in steps of 1", "2 usable windows, 5 needed"],
    }
)
LEFT = "left out (train_users, eval_users; or training users where seen is false)"


def test_counts_by_domain_and_reason_with_what_changes_them() -> None:
    assert rejects_as_text(DOMAINS, COUNTS, EXAMPLES.iloc[:0]).splitlines() == [
        f"films: 5 of 12 users and 203 of 1,200 ratings rejected; 4 users used, 3 {LEFT}",
        "  reason                   users     ratings",
        "  too_few_windows              5         200  the user has too few windows with a usable rating",
        "                                              change: windows_at_least, or a source with longer"
        " histories",
        "  outside_scale                2           3  the rating is not a mark of the domain's scale",
        "                                              change: the scale of the domain, or correct the rows",
        "",
        f"songs: 0 of 1 users and 0 of 50 ratings rejected; 1 users used, 0 {LEFT}",
    ]


def test_of_logs_events_are_counted() -> None:
    counts = COUNTS.assign(reason=["empty_text", "unreadable_time"])
    lines = rejects_as_text(DOMAINS.iloc[:1], counts, EXAMPLES.iloc[:0], logs=True).splitlines()
    assert lines[:4] == [
        "films: 5 of 12 users and 203 of 1,200 events rejected; 4 users used, 3 left out (train_users,"
        " eval_users)",
        "  reason                   users      events",
        "  empty_text                   5         200  it has no text",
        "                                              change: events.text, or correct the rows",
    ]


def test_every_reason_of_events_has_a_way_out() -> None:
    assert of_events.REASONS.keys() == of_events.WAYS_OUT.keys()


def test_examples_say_where_they_stand() -> None:
    lines = rejects_as_text(DOMAINS.iloc[:0], COUNTS.iloc[:0], EXAMPLES).splitlines()
    assert lines == [
        "films, outside_scale, for example:",
        f"  r.csv:7  user u\\u001b[2J1  '{'T' * 60}…'  rated '7'  7: the scale is from 1 to 5 in steps of 1",
        "",
        "films, too_few_windows, for example:",
        "  r.csv:9  user u2  2 usable windows, 5 needed",
    ]


def test_what_a_terminal_obeys_is_spelt_out() -> None:
    assert shown("a\u2028\nb\u202e\ufeff日本") == "a\\u2028\\u000ab\\u202e\\ufeff日本"
    assert shown(None) == ""
    assert shown("x" * 100, 10) == "x" * 10 + "…"


def test_a_reason_without_rejects_is_said() -> None:
    text = rejects_as_text(DOMAINS, COUNTS.iloc[:0], EXAMPLES.iloc[:0], "unreadable_time")
    assert text.endswith("\n\nno user and no rating is rejected for unreadable_time")
    assert "is rejected for" not in rejects_as_text(DOMAINS, COUNTS.iloc[1:], EXAMPLES, "outside_scale")
