"""Losses on whole groups of candidates: LiPO-λ, and the softmax form of S-DPO, which for pairs is DPO.

A group is one prompt with all its completions. A completion's score s is β·(log π − log π_ref), its reward ψ
the error it removes (rating points). Scores, rewards and mask of a batch are tensors of groups × places; the
mask is True where there is a completion.

Both losses are sigmoid DPO for a group of two: the softmax form exactly, LiPO-λ times the pair's weight.
Neither changes where a constant is added to all rewards of a group.

Departs from the paper: its likelihood term is of whole texts, this one a mean over tokens.

Lazy: it imports torch, so it is itself imported only where a training begins.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus


def preference_loss(
    token_logps: Tensor, batch: Mapping[str, Tensor], loss: str, beta: float, sft_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a batch (Section 3.3): that of its groups, plus α times the likelihood term.

    The likelihood term is the negative log-likelihood of each group's best completion, as a mean over the
    tokens of all of them, as in TRL's "sft".

    Args:
        token_logps: completions × tokens, log π of each; 0 where the completion has no token.
        batch: see `batches.collate`.
        loss: one of LOSSES.
        beta: β.
        sft_weight: α.

    Returns:
        The loss, and `accuracy_and_margin` of each group.
    """
    rewards, mask = batch["rewards"], batch["mask"]
    logps = torch.zeros_like(rewards).masked_scatter(mask, token_logps.sum(dim=1))
    scores = beta * (logps - batch["reference"]).masked_fill(~mask, 0)
    rows = (mask.flatten().cumsum(0) - 1).view_as(mask)
    best = rows.gather(1, best_places(rewards, mask)).squeeze(1)
    likelihood = token_logps[best][batch["packed_source"][best] >= 0].mean()
    whole = LOSSES[loss](scores, rewards, mask).mean() - sft_weight * likelihood
    return whole, *accuracy_and_margin(scores.detach(), rewards, mask)


def lipo_loss(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """LiPO-λ (arXiv 2402.01878, equation 8): every pair, weighed by what swapping its ranks would change.

    The sum over pairs with ψ_i > ψ_j of Δ_ij · log(1 + exp(−(s_i − s_j))), where
    Δ_ij = |G_i − G_j| · |1/D(τ_i) − 1/D(τ_j)| with gain G = 2^(ψ − max ψ), discount D(τ) = log(1 + τ), and τ
    the 1-based rank by score, the highest first; of equal scores the earlier place ranks higher. Δ is a
    weight: no gradient flows through it.

    LiPO's gain is 2^ψ − 1 of labels from 0 to 1, so gains differ by 1 at most. Rewards have no such scale:
    with that gain, one more point for every candidate would double all weights. Measured from the group's
    best, gains lie in (0, 1], only differences of rewards count, and no group outweighs the others without
    bound. Within a group the ratios of the weights stay those of LiPO's gain.

    Returns:
        The loss of each group; 0 where all rewards are equal.
    """
    better, ahead = _compared(scores, rewards, mask)
    order = scores.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1) + 1
    behind = (rewards - rewards.gather(1, best_places(rewards, mask))).masked_fill(~mask, 0)
    gain, discount = 2.0**behind, 1 / torch.log1p(rank.to(scores.dtype))
    weight = (gain.unsqueeze(2) - gain.unsqueeze(1)).abs()
    weight = weight * (discount.unsqueeze(2) - discount.unsqueeze(1)).abs()
    return (weight * softplus(-ahead)).masked_fill(~better, 0).sum(dim=(1, 2))


def softmax_loss(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """The softmax form of S-DPO (arXiv 2406.09215): the best completion against all that are worse.

    −log σ(−log Σ_d exp(s_d − s_p)), p the completion of the highest reward (the first of several), d every
    completion with a lower one. For a pair that is DPO's −log σ(s_p − s_d).

    Returns:
        The loss of each group; 0 where all rewards are equal.
    """
    best = best_places(rewards, mask)
    worse = mask & (rewards < rewards.gather(1, best))
    idle = ~worse.any(dim=1, keepdim=True)
    # An idle group keeps finite terms, or the gradient of its zero would be NaN.
    ahead = (scores - scores.gather(1, best)).masked_fill(~worse & ~idle, -torch.inf)
    return softplus(ahead.logsumexp(dim=1)).masked_fill(idle.squeeze(1), 0)


LOSSES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "pairwise": softmax_loss,
    "lipo": lipo_loss,
    "softmax": softmax_loss,
}
"""A job's loss → what computes it. A pair is a group of two."""


def best_places(rewards: Tensor, mask: Tensor) -> Tensor:
    """Where each group's completion of the highest reward lies, the first of several: groups × 1."""
    return rewards.masked_fill(~mask, -torch.inf).argmax(dim=1, keepdim=True)


def accuracy_and_margin(scores: Tensor, rewards: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How well scores order what rewards order; for a group of two, DPO's reward accuracy and margin.

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
