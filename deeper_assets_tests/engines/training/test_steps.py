from dataclasses import replace

import pytest

from deeper_assets.engines.training.steps import plan_steps, repeats
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.engines.tiny_policy import TINY_TRAINING


def test_steps_follow_from_batch_and_epochs() -> None:
    plan = plan_steps(replace(TINY_TRAINING, batch_size=8, examples_at_once=2, epochs=2.5), 33, devices=2)
    assert (plan.accumulation, plan.steps, plan.warmup_steps, plan.notes) == (2, 13, 2, ())
    plan = plan_steps(replace(TINY_TRAINING, warmup=250), 16, devices=1)
    assert (plan.steps, plan.warmup_steps) == (8, 4)
    assert plan.notes == ("warm-up of 250 steps cut to 4, half of all 8",)
    with pytest.raises(DeeperError, match=r"batch_size 4 cannot be divided .* 2 × 3 = 6"):
        plan_steps(TINY_TRAINING, 16, devices=3)
    with pytest.raises(DeeperError, match=r"training\.epochs is 0; it must be above 0"):
        plan_steps(replace(TINY_TRAINING, epochs=0), 16, devices=1)


def test_what_is_taken_twice_so_that_all_have_as_many_is_said() -> None:
    two_at_once = replace(TINY_TRAINING, examples_at_once=2)
    assert repeats(two_at_once, {"training": 16, "validation": 5}, devices=1) == ()
    assert repeats(two_at_once, {"training": 16, "validation": 5}, devices=2) == (
        "each pass over validation takes 3 of 5 examples twice, so that 2 devices have as many",
    )
    assert repeats(two_at_once, {"training": 17, "validation": 0}, devices=4) == (
        "each pass over training takes 7 of 17 examples twice, so that 4 devices have as many",
    )
