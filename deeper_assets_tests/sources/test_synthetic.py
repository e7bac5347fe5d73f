import json
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from statistics import mean, median, pstdev, stdev
from typing import Any

import pytest

from deeper_assets.method.domains import PAPER_DOMAINS, Domain, Scale, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.synthetic import PlantedItem, PlantedTruth, SyntheticSource
from deeper_assets.sources.themes import CATALOGUES, catalogue
from deeper_assets_tests.sources.reading import cut_source, picked, written

MOVIELENS = find_domain("movielens")
GAMES = Domain("games", "board game", Scale(1, 10, 1), seen=True)
PINNED = [
    ("movielens-00000", "Platoon in Wexley (1999)", 4.5, 0),
    ("movielens-00000", "Winter Alien (2003)", 4.5, 1),
    ("movielens-00000", "The Alien of Yesterday (1994)", 4.5, 2),
]


def test_the_same_user_whoever_else_is_asked_for(tmp_path: Path) -> None:
    few, _ = written(SyntheticSource(MOVIELENS, 3, 8), tmp_path)
    many, _ = written(SyntheticSource(MOVIELENS, 3, 20), tmp_path)
    assert few == many[: len(few)]
    short, _ = written(SyntheticSource(MOVIELENS, 3, 1, windows=5), tmp_path)
    assert picked(short, "title", "rating") == picked(few[:50], "title", "rating")


def test_these_very_ratings(tmp_path: Path) -> None:
    """Pinned: the same on every machine and Python."""
    rows, _ = written(SyntheticSource(MOVIELENS, 0, 1, windows=1), tmp_path)
    assert picked(rows[:3], "user_id", "title", "rating", "position") == PINNED
    assert (len(rows), [row["defect"] for row in rows if row["defect"]]) == (10, [])


def test_other_seeds_and_domains_are_other_people(tmp_path: Path) -> None:
    def ratings(domain: Domain, seed: int) -> list[Any]:
        return picked(written(SyntheticSource(domain, seed, 2), tmp_path)[0], "rating")

    assert ratings(MOVIELENS, 0) != ratings(MOVIELENS, 1)
    assert ratings(find_domain("book"), 0) != ratings(find_domain("grocery"), 0)


@pytest.mark.parametrize("domain", [*PAPER_DOMAINS, GAMES], ids=lambda domain: domain.name)
def test_every_user_is_usable(tmp_path: Path, domain: Domain) -> None:
    done = cut_source(SyntheticSource(domain, 0, 30), tmp_path)
    used = done.accounting.used
    assert (used.users, used.ratings, len(done.rejected)) == (30, 2100, 0)
    assert not done.windows.duplicated(["user_id", "title"]).any()


@pytest.mark.parametrize("domain", [*PAPER_DOMAINS, GAMES], ids=lambda domain: domain.name)
def test_marks_are_on_the_scale(tmp_path: Path, domain: Domain) -> None:
    rows, _ = written(SyntheticSource(domain, 1, 10), tmp_path)
    assert all(domain.scale.holds(row["rating"]) for row in rows)
    assert all(row["rating_text"] == f"{row['rating']:g}" for row in rows)


def test_marks_are_like_real_ones(tmp_path: Path) -> None:
    """Five stars: mostly fours and fives, users' means about 4, hardly one below the middle."""
    users = defaultdict(list)
    for row in written(SyntheticSource(find_domain("book"), 0, 150), tmp_path)[0]:
        users[row["user_id"]].append(row["rating"])
    means = sorted(mean(ratings) for ratings in users.values())
    assert 3.8 < mean(means) < 4.2
    assert 0.35 < stdev(means) < 0.65
    assert means[7] < 3.3
    assert means[-8] > 4.5
    assert 0.7 < mean(pstdev(ratings) for ratings in users.values()) < 1.1
    marks = Counter(rating for ratings in users.values() for rating in ratings)
    assert {mark for mark, _ in marks.most_common(2)} == {4, 5}
    assert marks[1] < marks[2] < marks[3] < marks[4]


def test_tastes_show_in_titles(tmp_path: Path) -> None:
    """Who knows a user's mean per theme word's theme errs less than who knows the median alone."""
    themes = {word: theme for theme, words in CATALOGUES["movielens"].themes.items() for word in words}
    known, blind = [], []
    users = defaultdict(list)
    for row in written(SyntheticSource(MOVIELENS, 0, 60), tmp_path)[0]:
        theme, *others = {themes[word] for word in row["title"].split() if word in themes} or {None}
        assert not others
        users[row["user_id"]].append((theme, row["rating"]))
    for ratings in users.values():
        before, after = ratings[:60], ratings[60:]
        middle = median(rating for _, rating in before)
        for theme, rating in after:
            alike = [other for what, other in before if what == theme]
            known.append(abs(rating - (mean(alike) if theme and alike else middle)))
            blind.append(abs(rating - middle))
    assert mean(known) < 0.8 * mean(blind)


# --------------------------------------------------------------------------------- the planted truth

Parts = dict[tuple[str, str], list[tuple[datetime, float]]]


def by_user(truth: list[PlantedTruth]) -> dict[str, Parts]:
    """Of every user, (part, name) → what holds from when on."""
    users: dict[str, Parts] = defaultdict(lambda: defaultdict(list))
    for one in truth:
        users[one.user_id][one.part, one.name].append((one.since, one.value))
    return users


def held(parts: Parts, part: str, name: str, moment: datetime) -> float:
    return [value for since, value in parts[part, name] if since <= moment][-1]


@pytest.mark.parametrize("domain", [MOVIELENS, GAMES], ids=lambda domain: domain.name)
def test_the_truth_reproduces_the_ratings_within_the_noise(tmp_path: Path, domain: Domain) -> None:
    source = SyntheticSource(domain, 0, 40)
    rows, _ = written(source, tmp_path)
    truth, planted = source.truth()
    users, items = by_user(truth), {item.title: item for item in planted}
    assert set(users) == {row["user_id"] for row in rows}
    assert set(items) == {row["title"] for row in rows}
    width = domain.scale.highest - domain.scale.lowest
    near = 0
    for row in rows:
        parts, item, moment = users[row["user_id"]], items[row["title"]], row["rated_at"]
        habit, use, noise = (held(parts, part, "", moment) for part in ("habit", "use", "noise"))
        share = habit + use * (held(parts, "taste", item.theme, moment) + item.quality)
        expected = domain.scale.lowest + min(max(share, 0), 1) * width
        near += abs(row["rating"] - expected) <= 3 * noise * width + domain.scale.step / 2
    # 99.7 % of what is normal lies within three standard deviations.
    assert near / len(rows) > 0.99


def test_one_user_in_four_changes_half_way_and_two_tastes_swap_their_strengths(tmp_path: Path) -> None:
    source = SyntheticSource(MOVIELENS, 0, 200)
    moments = defaultdict(list)
    for row in written(source, tmp_path)[0]:
        moments[row["user_id"]].append(row["rated_at"])
    changing = 0
    for user, parts in by_user(source.truth()[0]).items():
        tastes = {name: values for (part, name), values in parts.items() if part == "taste"}
        first = {name: values[0][1] for name, values in tastes.items()}
        assert len(tastes) == 8
        assert 2 <= sum(value > 0 for value in first.values()) <= 3
        assert 2 <= sum(value < 0 for value in first.values()) <= 3
        assert all(value == 0 or 0.1 <= value <= 0.25 or -0.55 <= value <= -0.25 for value in first.values())
        assert all(values[0][0] == moments[user][0] for values in parts.values())
        changed = {name: values[1:] for name, values in tastes.items() if len(values) > 1}
        if changed:
            changing += 1
            best, worst = max(first, key=first.__getitem__), min(first, key=first.__getitem__)
            ((when, _),) = changed[best]
            assert changed == {best: [(when, first[worst])], worst: [(when, first[best])]}
            # 70 ratings: the change is no earlier than the 29th, no later than the 43rd.
            assert 28 <= moments[user].index(when) <= 42
            assert {when for values in parts.values() for when, _ in values[1:]} == {when}
        for part in ("habit", "use", "noise"):
            ((_, value),) = parts[part, ""]
            assert {"habit": 0.3, "use": 0.6, "noise": 0.03}[part] <= value
            assert value <= {"habit": 1.0, "use": 1.4, "noise": 0.1}[part]
    # Of 200, fifty; the standard deviation is 6.1.
    assert abs(changing - 50) < 20


def test_liked_themes_come_up_more_often(tmp_path: Path) -> None:
    """Shares of 3, 1.5 and 1 against each other; over many users they are what happens."""
    source = SyntheticSource(MOVIELENS, 0, 60)
    truth, planted = source.truth()
    users, items = by_user(truth), {item.title: item for item in planted}
    met, expected = Counter(), Counter()
    for row in written(source, tmp_path)[0]:
        parts, moment = users[row["user_id"]], row["rated_at"]
        theme = items[row["title"]].theme
        for name in CATALOGUES["movielens"].themes:
            taste, appeal = (held(parts, part, name, moment) for part in ("taste", "appeal"))
            expected[(taste > 0) - (taste < 0)] += appeal
            met[(taste > 0) - (taste < 0)] += name == theme
    for sign in (1, 0, -1):
        assert met[sign] == pytest.approx(expected[sign], rel=0.06)
    parts = next(iter(users.values()))
    assert sum(values[0][1] for (part, _), values in parts.items() if part == "appeal") == pytest.approx(1)


def test_one_title_in_eight_shows_no_word_of_its_theme() -> None:
    themes = CATALOGUES["movielens"].themes
    _, items = SyntheticSource(MOVIELENS, 0, 60).truth()
    wordless = [item for item in items if item.word is None]
    assert len(wordless) / len(items) == pytest.approx(1 / 8, abs=0.02)
    for item in items:
        spoken = [word for words in themes.values() for word in words if word in item.title.split()]
        assert spoken == ([] if item.word is None else [item.word])
        assert item.word is None or item.word in themes[item.theme]
    assert {item.theme for item in wordless} == set(themes)


@pytest.mark.parametrize("name", ["movielens", "recipe"])
def test_an_item_is_the_same_whoever_rates_it(name: str) -> None:
    """Its quality, and the theme of one whose title shows none; over items, quality is 0.05 wide."""
    source = SyntheticSource(find_domain(name), 0, 150)
    met: dict[str, list[PlantedItem]] = defaultdict(list)
    for user in source._people():
        for _, item in user.history():
            met[item.title].append(item)
    assert all(len(set(items)) == 1 for items in met.values())
    assert sum(len(items) > 1 for items in met.values()) > 500
    assert sum(len(items) > 1 and items[0].word is None for items in met.values()) > 50
    qualities = [items[0].quality for items in met.values()]
    assert abs(mean(qualities)) < 0.005
    assert pstdev(qualities) == pytest.approx(0.05, rel=0.1)
    other = {item.title: item.quality for item in SyntheticSource(find_domain(name), 1, 5).truth()[1]}
    assert all(met[title][0].quality != other[title] for title in met.keys() & other)


def test_the_truth_is_the_same_whoever_else_is_asked_for() -> None:
    few, many = (SyntheticSource(MOVIELENS, 3, users).truth() for users in (4, 9))
    assert few[0] == many[0][: len(few[0])]
    assert set(few[1]) < set(many[1])


# --------------------------------------------------------------------------------- words


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
