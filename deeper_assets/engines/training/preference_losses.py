"""Losses on whole groups of candidates: LiPO-λ, and the softmax form of S-DPO.

A group is one prompt with all its completions. A completion's score s is β·(log π − log π_ref), its reward ψ
the error it removes (rating points). Groups of one batch lie in rectangular tensors, groups × places, and a
mask says which places hold a completion.

Both losses are sigmoid DPO for a group of two: the softmax form exactly, LiPO-λ times the pair's weight.

Tensors are torch's; their type is not named, because torch is imported where it is used.
"""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any


def lipo_loss(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """LiPO-λ (arXiv 2402.01878, equation 8): every pair, weighed by what swapping its ranks would change.

    The sum over pairs with ψ_i > ψ_j of Δ_ij · log(1 + exp(−(s_i − s_j))), where
    Δ_ij = |G_i − G_j| · |1/D(τ_i) − 1/D(τ_j)| with gain G = 2^ψ − 1, discount D(τ) = log(1 + τ), and τ the
    1-based rank by score, the highest first; of equal scores the earlier place ranks higher. Δ is a weight:
    no gradient flows through it.

    Args:
        scores: groups × places.
        rewards: groups × places, rating points.
        mask: groups × places, True where there is a completion.

    Returns:
        The loss of each group; 0 where all rewards are equal.
    """
    import torch
    from torch.nn.functional import softplus

    better, ahead = _compared(scores, rewards, mask)
    order = scores.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1) + 1
    gain, discount = 2.0**rewards - 1, 1 / torch.log1p(rank.to(scores.dtype))
    weight = (gain.unsqueeze(2) - gain.unsqueeze(1)).abs()
    weight = weight * (discount.unsqueeze(2) - discount.unsqueeze(1)).abs()
    return (weight * softplus(-ahead)).masked_fill(~better, 0).sum(dim=(1, 2))


def softmax_loss(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """The softmax form of S-DPO (arXiv 2406.09215): the best completion against all that are worse.

    −log σ(−log Σ_d exp(s_d − s_p)), p the completion of the highest reward (the first of several), d every
    completion with a lower one.

    Args:
        scores: groups × places.
        rewards: groups × places, rating points.
        mask: groups × places, True where there is a completion.

    Returns:
        The loss of each group; 0 where all rewards are equal.
    """
    import torch
    from torch.nn.functional import softplus

    best = best_places(rewards, mask)
    worse = mask & (rewards < rewards.gather(1, best))
    idle = ~worse.any(dim=1, keepdim=True)
    # An idle group keeps finite terms, or the gradient of its zero would be NaN.
    ahead = (scores - scores.gather(1, best)).masked_fill(~worse & ~idle, -torch.inf)
    return softplus(ahead.logsumexp(dim=1)).masked_fill(idle.squeeze(1), 0)


def best_places(rewards: Tensor, mask: Tensor) -> Tensor:
    """Where each group's completion of the highest reward lies, the first of several: groups × 1."""
    import torch

    return rewards.masked_fill(~mask, -torch.inf).argmax(dim=1, keepdim=True)


def accuracy_and_margin(scores: Tensor, rewards: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How well scores order what rewards order; for a group of two, DPO's reward accuracy and margin.

    Args:
        scores: groups × places.
        rewards: groups × places, rating points.
        mask: groups × places, True where there is a completion.

    Returns:
        For each group, over its pairs with ψ_i > ψ_j: the share (0-1) with s_i > s_j, and the mean of
        s_i − s_j. NaN where all rewards are equal.
    """
    better, ahead = _compared(scores, rewards, mask)
    pairs = better.sum(dim=(1, 2))
    right = ((ahead > 0) & better).sum(dim=(1, 2))
    return right / pairs, ahead.masked_fill(~better, 0).sum(dim=(1, 2)) / pairs


def _compared(scores: Tensor, rewards: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """For each group, place i and place j: whether ψ_i > ψ_j, and s_i − s_j."""
    both = mask.unsqueeze(2) & mask.unsqueeze(1)
    better = both & (rewards.unsqueeze(2) > rewards.unsqueeze(1))
    return better, scores.unsqueeze(2) - scores.unsqueeze(1)
