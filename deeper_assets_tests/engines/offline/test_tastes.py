from deeper_assets.engines.offline.tastes import MOST_TASTES, bounded, combined, seen_in_ratings
from deeper_assets.engines.offline.themes import find_kind
from deeper_assets.method.domains import FIVE_STARS, Scale

CAKES, MEAT, FISH = "home-baked cakes and pies", "roasts and grilled meats", "fish and seafood suppers"
SALADS, TACOS = "fresh salads and vegetables", "spicy Mexican cooking"
RECIPE = find_kind("recipe")


def test_a_taste_is_how_far_its_ratings_lie_from_the_median_as_if_there_were_one_more() -> None:
    rated = [("cake", 5), ("pie", 5), ("salad", 4), ("steak", 1), ("salmon", 4), ("crab", 3)]
    # Shares 1, 1, 0.75, 0, 0.75, 0.5; their median is 0.75. Cakes (0.25 + 0.25) / 3 = 0.17, nearest to 0.2;
    # meat -0.75 / 2 = -0.375, to -0.35; fish -0.25 / 3 = -0.083, to -0.15; salads 0.
    degrees, level = seen_in_ratings(rated, RECIPE, FIVE_STARS)
    assert list(degrees.items()) == [(MEAT, -2), (CAKES, 2), (FISH, -1)]
    assert level == 0.75


def test_the_same_ratings_on_another_scale_show_the_same() -> None:
    rated = [("cake", 5.0), ("pie", 5.0), ("salad", 4.0), ("steak", 1.0), ("salmon", 4.0), ("crab", 3.0)]
    tenths = [(title, 10 * (rating - 1)) for title, rating in rated]
    assert seen_in_ratings(tenths, RECIPE, Scale(0, 40, 1)) == seen_in_ratings(rated, RECIPE, FIVE_STARS)


def test_a_title_counts_for_each_of_its_themes() -> None:
    # The median is 0.5; steak and crab -0.5 / 2 each, halfway between doubt and dislike, but for the float.
    degrees, level = seen_in_ratings([("surf: steak, crab", 1), ("bowl", 3), ("dish", 4)], RECIPE, FIVE_STARS)
    assert set(degrees) == {MEAT, FISH}
    assert len(set(degrees.values())) == 1
    assert level == 0.5


def test_new_tastes_come_first_are_stronger_where_old_ones_agree_and_right_where_they_do_not() -> None:
    old = {SALADS: 1, MEAT: -1, CAKES: 1, FISH: 2}
    new = {CAKES: 1, MEAT: 2, TACOS: -1, SALADS: 0}
    assert list(combined(old, new).items()) == [(CAKES, 2), (MEAT, 2), (TACOS, -1), (FISH, 2)]
    assert combined({MEAT: -2}, {MEAT: -1}) == {MEAT: -2}
    assert combined({}, new) == {CAKES: 1, MEAT: 2, TACOS: -1}
    assert combined(old, {}) == old


def test_the_foremost_eight_are_kept_and_none_that_is_no_taste() -> None:
    many = {f"theme {number}": number % 3 - 1 for number in range(30)}
    kept = [number for number in range(30) if number % 3 != 1][:MOST_TASTES]
    assert MOST_TASTES == 8
    assert list(bounded(many)) == [f"theme {number}" for number in kept]
