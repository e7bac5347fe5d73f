import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.engines.training.losses import (
    accuracy_and_margin,
    lipo_loss,
    preference_loss,
    softmax_loss,
)

# Scores rank the three completions 1, 2, 3; rewards (gains 1/2, 1/4, 1) order them 2, 3, 1.
SCORES, REWARDS = [0.5, 0.2, -0.1], [1.0, 0.0, 2.0]

number = st.floats(-5, 5, allow_nan=False).map(lambda value: round(value, 3))
eighths = st.integers(-40, 40).map(lambda value: value / 8)


def group(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def everywhere(scores):
    return torch.ones_like(scores, dtype=torch.bool)


def test_lipo_by_hand() -> None:
    scores = group(SCORES)
    # 1/log(1 + rank): 1.442695, 0.910239, 0.721348.
    third_first = 0.5 * (1.442695 - 0.721348) * math.log(1 + math.exp(0.6))
    third_second = 0.75 * (0.910239 - 0.721348) * math.log(1 + math.exp(0.3))
    first_second = 0.25 * (1.442695 - 0.910239) * math.log(1 + math.exp(-0.3))
    assert third_first + third_second + first_second == pytest.approx(0.569022, abs=1e-5)
    assert lipo_loss(scores, group(REWARDS), everywhere(scores)).tolist() == pytest.approx(
        [0.569022], abs=1e-5
    )


def test_lipo_by_hand_where_nothing_is_better_than_before() -> None:
    """Rewards of −1 and −3: gains 1 and 1/4, whoever else has a place in the batch."""
    scores, mask = group([0.0, 0.0, 0.0]), torch.tensor([[True, True, False]])
    expected = 0.75 * (1.442695 - 0.910239) * math.log(2)
    assert expected == pytest.approx(0.276803, abs=1e-6)
    got = lipo_loss(scores, group([-1.0, -3.0, 0.0]), mask)
    assert got.tolist() == pytest.approx([0.276803], abs=1e-6)


def test_softmax_by_hand() -> None:
    scores = group(SCORES)
    # −log σ(−log(e^0.6 + e^0.3)) = log(1 + 1.822119 + 1.349859)
    assert softmax_loss(scores, group(REWARDS), everywhere(scores)).tolist() == pytest.approx([1.428391])


def test_accuracy_and_margin_by_hand() -> None:
    scores = group(SCORES)
    accuracy, margin = accuracy_and_margin(scores, group(REWARDS), everywhere(scores))
    assert accuracy.tolist() == pytest.approx([1 / 3])
    assert margin.tolist() == pytest.approx([(-0.6 - 0.3 + 0.3) / 3])


@pytest.mark.parametrize("loss", ["pairwise", "softmax", "lipo"])
def test_the_likelihood_is_a_mean_over_tokens_of_the_best_texts(loss: str) -> None:
    """The best texts have one token and three: (1 + 2 + 3 + 4) / 4, not (1 + 9 / 3) / 2."""
    rows = [[0, -1, 0, 0], [-7, -7, 0, 0], [0, 0, -9, 0], [0, -2, -3, -4]]
    tokens = [[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1]]
    batch = {
        "rewards": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "mask": torch.ones(2, 2, dtype=torch.bool),
        "reference": torch.tensor([[-1.0, -14.0], [-9.0, -9.0]]),
        "packed_source": torch.tensor(tokens) - 1,
    }
    token_logps = torch.tensor(rows, dtype=torch.float32)
    without, with_term = (
        preference_loss(token_logps, batch, loss, beta=0.2, sft_weight=weight)[0].item()
        for weight in (0.0, 0.1)
    )
    # The policy is the reference, so all scores are equal. LiPO-λ weighs by 1/log 2 − 1/log 3, gains by 1/2.
    weight = (1 / math.log(2) - 1 / math.log(3)) / 2 if loss == "lipo" else 1
    assert without == pytest.approx(weight * math.log(2))
    assert with_term - without == pytest.approx(0.1 * 2.5, abs=1e-6)


@pytest.mark.parametrize("loss", [lipo_loss, softmax_loss])
def test_groups_of_different_size_do_not_touch_each_other(loss) -> None:
    scores = group([0.9, 9.0, -3.0], SCORES, [0.4, 0.1, 0.0]).requires_grad_()
    rewards = group([0.0, 0.0, 0.0], REWARDS, [0.0, 1.0, 0.0])
    mask = torch.tensor([[True, False, False], [True, True, True], [True, True, False]])
    losses = loss(scores, rewards, mask)
    alone = group(SCORES)
    pair = group([0.4, 0.1])
    assert losses.tolist() == pytest.approx(
        [
            0.0,
            loss(alone, group(REWARDS), everywhere(alone)).item(),
            loss(pair, group([0.0, 1.0]), everywhere(pair)).item(),
        ]
    )
    losses.sum().backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[~mask].tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss", [lipo_loss, softmax_loss])
def test_equal_rewards_teach_nothing(loss) -> None:
    scores = group(SCORES).requires_grad_()
    value = loss(scores, group([0.7, 0.7, 0.7]), everywhere(scores))
    value.sum().backward()
    assert value.tolist() == [0]
    assert scores.grad.tolist() == [[0, 0, 0]]


@settings(deadline=None)
@given(number, number, number, number)
def test_for_a_group_of_two_both_are_sigmoid_dpo(a: float, b: float, better: float, worse: float) -> None:
    rewards = group([better, worse])
    scores = group([a, b]).requires_grad_()
    sign = 1 if better > worse else -1 if better < worse else 0
    dpo = -torch.nn.functional.logsigmoid(sign * (scores[:, 0] - scores[:, 1])) if sign else 0 * scores[:, 0]
    weight = (1 - 2 ** -abs(better - worse)) * (1 / math.log(2) - 1 / math.log(3))
    softmax, lipo = (loss(scores, rewards, everywhere(scores)) for loss in (softmax_loss, lipo_loss))
    torch.testing.assert_close(softmax, dpo)
    torch.testing.assert_close(lipo, weight * dpo)
    slopes = [torch.autograd.grad(value, scores, retain_graph=True)[0] for value in (dpo, softmax, lipo)]
    torch.testing.assert_close(slopes[1], slopes[0])
    torch.testing.assert_close(slopes[2], weight * slopes[0])  # so no gradient flows through the weight


@pytest.mark.parametrize("loss", [lipo_loss, softmax_loss])
@settings(deadline=None)
@given(st.lists(st.tuples(number, eighths), min_size=4, max_size=4), eighths)
def test_a_constant_added_to_all_rewards_changes_nothing(
    loss, members: list[tuple[float, float]], constant: float
) -> None:
    """Not a bit of loss and gradient; with 0.3, which is no sum of halves, nothing but rounding."""
    mask = torch.tensor([[True, True, True, False]])
    rewards = group([reward for _, reward in members])

    def taught(added: float) -> tuple[torch.Tensor, torch.Tensor]:
        scores = group([score for score, _ in members]).requires_grad_()
        value = loss(scores, rewards + added, mask)
        return value.detach(), torch.autograd.grad(value.sum(), scores)[0]

    torch.testing.assert_close(taught(constant), taught(0), rtol=0, atol=0)
    torch.testing.assert_close(taught(0.3), taught(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", [lipo_loss, softmax_loss])
def test_rewards_of_a_wide_scale_teach_in_finite_numbers(loss) -> None:
    """In rating points of a scale to 100, as float32, which ends at 2^128."""
    scores = torch.zeros(2, 3).requires_grad_()
    rewards = torch.tensor([[-250.0, -200.0, 0.0], [190.0, -70.0, 0.0]])
    value = loss(scores, rewards, torch.tensor([[True, True, False], [True, True, True]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("loss", [lipo_loss, softmax_loss])
def test_the_order_of_completions_does_not_matter(loss) -> None:
    orders = [list(order) for order in permutations(range(3))]
    scores, rewards = (
        group(*[[values[i] for i in order] for order in orders]) for values in (SCORES, REWARDS)
    )
    losses = loss(scores, rewards, everywhere(scores))
    torch.testing.assert_close(losses, losses[:1].expand(6))
