import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import pytest

from deeper_assets.method.domains import PAPER_DOMAINS, Domain, Scale, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import UserSampling, WindowRules, account, cut_windows, reject_ratings
from deeper_assets.sources.synthetic import SyntheticSource
from deeper_assets.sources.themes import CATALOGUES, catalogue
from deeper_assets_tests.sources.reading import frame, picked, written

MOVIELENS = find_domain("movielens")
GAMES = Domain("games", "board game", Scale(1, 10, 1), seen=True)
PINNED = [
    ("movielens-00000", "Kingdom in Wexley (1999)", 4.5, 0),
    ("movielens-00000", "Winter Alien (2003)", 5.0, 1),
    ("movielens-00000", "The Santa of Yesterday (1994)", 5.0, 2),
]


def test_the_same_user_whoever_else_is_asked_for(tmp_path: Path) -> None:
    few, _ = written(SyntheticSource(MOVIELENS, 3, 8), tmp_path)
    many, _ = written(SyntheticSource(MOVIELENS, 3, 20), tmp_path)
    assert few == many[: len(few)]
    short, _ = written(SyntheticSource(MOVIELENS, 3, 1, windows=5), tmp_path)
    assert picked(short, "title", "rating") == picked(few[:50], "title", "rating")


def test_these_very_ratings(tmp_path: Path) -> None:
    """Pinned: the same on every machine and Python."""
    rows, report = written(SyntheticSource(MOVIELENS, 0, 1, windows=1), tmp_path)
    assert picked(rows[:3], "user_id", "title", "rating", "position") == PINNED
    assert (report.rows, [row["defect"] for row in rows if row["defect"]]) == (10, [])


def test_other_seeds_and_domains_are_other_people(tmp_path: Path) -> None:
    def ratings(domain: Domain, seed: int) -> list[Any]:
        return picked(written(SyntheticSource(domain, seed, 2), tmp_path)[0], "rating")

    assert ratings(MOVIELENS, 0) != ratings(MOVIELENS, 1)
    assert ratings(find_domain("book"), 0) != ratings(find_domain("grocery"), 0)


@pytest.mark.parametrize("domain", [*PAPER_DOMAINS, GAMES], ids=lambda domain: domain.name)
def test_every_user_is_usable(tmp_path: Path, domain: Domain) -> None:
    raw = frame(SyntheticSource(domain, 0, 30), tmp_path)
    rejected = reject_ratings(raw, domain, WindowRules())
    windows = cut_windows(raw, rejected, domain, WindowRules(), UserSampling())
    accounting = account(raw, rejected, windows, domain, WindowRules())
    assert (accounting.used.users, accounting.used.ratings, len(rejected)) == (30, 2100, 0)
    assert not raw.duplicated(["user_id", "title"]).any()


def test_marks_are_like_real_ones(tmp_path: Path) -> None:
    """Five stars: mostly fives, users' means about 4.2, some at the top and some in the middle."""
    users = defaultdict(list)
    for row in written(SyntheticSource(find_domain("book"), 0, 150), tmp_path)[0]:
        users[row["user_id"]].append(row["rating"])
    means = sorted(mean(ratings) for ratings in users.values())
    assert 4.0 < mean(means) < 4.4
    assert 0.3 < stdev(means) < 0.6
    assert means[5] < 3.6
    assert means[-5] > 4.75
    marks = [rating for ratings in users.values() for rating in ratings]
    assert max(set(marks), key=marks.count) == 5
    assert set(marks) <= {1, 2, 3, 4, 5}


def test_tastes_show_in_titles(tmp_path: Path) -> None:
    """Who knows a user's mean per theme word's theme errs less than who knows the median alone."""
    themes = {word: theme for theme, words in CATALOGUES["movielens"].themes.items() for word in words}
    known, blind = [], []
    users = defaultdict(list)
    for row in written(SyntheticSource(MOVIELENS, 0, 60), tmp_path)[0]:
        (theme,) = {themes[word] for word in row["title"].split() if word in themes}
        users[row["user_id"]].append((theme, row["rating"]))
    for ratings in users.values():
        before, after = ratings[:60], ratings[60:]
        middle = median(rating for _, rating in before)
        for theme, rating in after:
            alike = [other for what, other in before if what == theme]
            known.append(abs(rating - (mean(alike) if alike else middle)))
            blind.append(abs(rating - middle))
    assert mean(known) < 0.8 * mean(blind)


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_word_belongs_to_one_theme(name: str) -> None:
    catalogue = CATALOGUES[name]
    words = [word for theme in catalogue.themes.values() for word in theme]
    assert [len(theme) for theme in catalogue.themes.values()] == [10] * 8
    assert len(set(words)) == 80
    fixed = {word for pattern in catalogue.patterns for word in pattern.replace(",", " ").split()}
    assert not set(words) & (set(catalogue.others) | fixed)
    assert all("{word}" in pattern for pattern in catalogue.patterns)


def test_every_domain_of_the_paper_has_words_and_others_get_neutral_ones() -> None:
    assert set(CATALOGUES) == {domain.name for domain in PAPER_DOMAINS}
    assert catalogue("games", "board game").patterns[0] == "{other} {word} Board Game"
    assert catalogue("odd", "{0}").patterns[0].format(word="Fox", other="Red") == "Red Fox 0"


def test_identity() -> None:
    one = SyntheticSource(MOVIELENS, 0, 10).identity()
    json.dumps(one)
    assert one | {"seed": 1} == SyntheticSource(MOVIELENS, 1, 10).identity()
    assert SyntheticSource(MOVIELENS, 0, 10).files() == []
    with pytest.raises(DeeperError, match="0 users with 7 windows"):
        SyntheticSource(MOVIELENS, 0, 0)
