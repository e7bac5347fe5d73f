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

# Scores rank the three completions 1, 2, 3; rewards (gains 1, 0, 3) order them 2, 3, 1.
SCORES, REWARDS = [0.5, 0.2, -0.1], [1.0, 0.0, 2.0]

number = st.floats(-5, 5, allow_nan=False).map(lambda value: round(value, 3))


def group(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def everywhere(scores):
    return torch.ones_like(scores, dtype=torch.bool)


def test_lipo_by_hand() -> None:
    scores = group(SCORES)
    # 1/log(1 + rank): 1.442695, 0.910239, 0.721348.
    third_first = 2 * (1.442695 - 0.721348) * math.log(1 + math.exp(0.6))
    third_second = 3 * (0.910239 - 0.721348) * math.log(1 + math.exp(0.3))
    first_second = 1 * (1.442695 - 0.910239) * math.log(1 + math.exp(-0.3))
    assert third_first + third_second + first_second == pytest.approx(2.276089, abs=1e-5)
    assert lipo_loss(scores, group(REWARDS), everywhere(scores)).tolist() == pytest.approx(
        [2.276089], abs=1e-5
    )


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
    # The policy is the reference, so all scores are equal. LiPO-λ weighs by 1/log 2 − 1/log 3, gains by 1.
    weight = 1 / math.log(2) - 1 / math.log(3) if loss == "lipo" else 1
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
    weight = abs(2**better - 2**worse) * (1 / math.log(2) - 1 / math.log(3))
    softmax, lipo = (loss(scores, rewards, everywhere(scores)) for loss in (softmax_loss, lipo_loss))
    torch.testing.assert_close(softmax, dpo)
    torch.testing.assert_close(lipo, weight * dpo)
    slopes = [torch.autograd.grad(value, scores, retain_graph=True)[0] for value in (dpo, softmax, lipo)]
    torch.testing.assert_close(slopes[1], slopes[0])
    torch.testing.assert_close(slopes[2], weight * slopes[0])  # so no gradient flows through the weight


@pytest.mark.parametrize("loss", [lipo_loss, softmax_loss])
def test_the_order_of_completions_does_not_matter(loss) -> None:
    orders = [list(order) for order in permutations(range(3))]
    scores, rewards = (
        group(*[[values[i] for i in order] for order in orders]) for values in (SCORES, REWARDS)
    )
    losses = loss(scores, rewards, everywhere(scores))
    torch.testing.assert_close(losses, losses[:1].expand(6))
