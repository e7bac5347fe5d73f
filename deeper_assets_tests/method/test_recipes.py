"""Names: of recipes, of their trainings and of the methods that these make."""

from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.recipes import (
    DEFAULT_RECIPE,
    RECIPES,
    is_taken,
    policy_methods,
    training_of,
    trainings_of,
)


def test_the_first_training_has_the_recipes_own_name() -> None:
    assert trainings_of("paper", 3) == ["paper", "paper_seed_2", "paper_seed_3"]
    assert policy_methods([*trainings_of("balanced", 2), *trainings_of("paper", 2)]) == {
        "deeper": ("balanced", 2),
        "deeper_iteration_1": ("balanced", 1),
        "deeper_seed_2": ("balanced_seed_2", 2),
        "deeper_iteration_1_seed_2": ("balanced_seed_2", 1),
        "deeper_paper": ("paper", 2),
        "deeper_paper_seed_2": ("paper_seed_2", 2),
    }


def test_a_number_is_read_only_where_one_is_written() -> None:
    assert training_of("deeper_paper_seed_12") == ("deeper_paper", 12)
    for whole in (
        "deeper",
        "floor_user_median",
        "deeper_seed_1",
        "deeper_seed_02",
        "deeper_seed_x",
        "seed_2",
    ):
        assert training_of(whole) == (whole, 1)


PARTS = st.sampled_from(["a", "seed", "iteration", "1", "2", "12", "_"])
NAMES = st.lists(PARTS, min_size=1, max_size=6).map("".join).filter(lambda name: name[0].isalpha())


@given(st.sets(NAMES, max_size=4), st.integers(1, 12))
def test_every_method_leads_back_to_its_recipe(names: set[str], seeds: int) -> None:
    """Whatever one's own recipes are called, as long as their names are not taken."""
    recipes = {*RECIPES, *(name for name in names if not is_taken(name))}
    trainings = {name: recipe for recipe in recipes for name in trainings_of(recipe, seeds)}
    assert len(trainings) == len(recipes) * seeds
    methods = policy_methods(trainings)
    assert len(methods) == (len(recipes) + 1) * seeds  # of the default recipe both models
    firsts = policy_methods(recipes)
    for method, (training, iteration) in methods.items():
        first, number = training_of(method)
        assert training_of(training) == (trainings[training], number)
        assert firsts[first] == (trainings[training], iteration)


def test_names_that_would_be_another_recipes_are_taken() -> None:
    for name in ("seed_2", "paper_seed_2", "mine_seed_0", "iteration_1"):
        assert is_taken(name)
    for name in (*RECIPES, DEFAULT_RECIPE, "iteration_2", "mine_iteration_1", "seeds", "seed_two"):
        assert not is_taken(name)
