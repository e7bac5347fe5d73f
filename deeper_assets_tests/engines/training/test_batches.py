from pathlib import Path

import torch

from deeper_assets.engines.training.batches import collate, log_probs, pack
from deeper_assets.engines.training.memory import SMALL_LOGITS
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy

PROMPTS = [[3, 5, 6, 7, 2, 4], [3, 9, 4]]
COMPLETIONS = [[[8, 9, 2], [11, 2]], [[10, 2], [12, 13, 14, 5, 2]]]


def test_branches_lie_behind_their_prompt_and_see_nothing_else() -> None:
    batch = pack(PROMPTS, COMPLETIONS, pad_token_id=0)
    assert batch["packed_ids"][1].tolist() == [3, 9, 4, 10, 2, 4, 12, 13, 14, 5, 2, 0]
    assert batch["packed_positions"][1].tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 0]
    assert batch["packed_labels"][1].tolist() == [-100] * 3 + [10, 2, -100, 12, 13, 14, 5, 2, -100]
    mask = batch["packed_mask"][1, 0]
    assert [key for key in range(12) if mask[4, key]] == [0, 1, 2, 3, 4]
    assert [key for key in range(12) if mask[7, key]] == [0, 1, 5, 6, 7]
    assert batch["packed_source"].shape == (4, 8)
    assert batch["packed_source"][2].tolist() == [-1, -1, 11 + 2, 11 + 3, -1, -1, -1, -1]


def test_scores_and_gradients_are_those_of_reading_every_row_whole(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(save_tiny_policy(tmp_path))
    expected = torch.zeros(4, 8)
    rows = [(prompt, own) for prompt, branches in zip(PROMPTS, COMPLETIONS, strict=True) for own in branches]
    for row, (prompt, completion) in enumerate(rows):
        ids = torch.tensor([prompt + completion])
        logps = model(ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None]).squeeze(1)
        start = len(prompt) - 1
        expected[row, start : start + len(completion)] = logps[start:]
    slope = torch.autograd.grad(expected.sum(), model.model.embed_tokens.weight)[0]

    add_fused_lm_head(model)
    batch = pack(PROMPTS, COMPLETIONS, pad_token_id=0)
    for vocabulary in (model.config.vocab_size, SMALL_LOGITS):  # all logits at once, and in tiles
        logps = log_probs(model, batch, vocabulary)
        torch.testing.assert_close(logps, expected, atol=1e-5, rtol=1e-5)
        slope_of_logps = torch.autograd.grad(logps.sum(), model.model.embed_tokens.weight)[0]
        torch.testing.assert_close(slope_of_logps, slope, atol=1e-5, rtol=1e-4)


def test_a_batch_of_groups_has_their_completions_as_rows() -> None:
    batch = collate(
        [
            {"prompt_ids": [3, 4], "completion_ids": [[5, 2]], "rewards": [0.5], "reference": [-1.0]},
            {
                "prompt_ids": [3],
                "completion_ids": [[6], [7, 2]],
                "rewards": [1.0, -2.0],
                "reference": [-2.0, -3.0],
            },
        ],
        pad_token_id=0,
    )
    assert batch["rewards"].tolist() == [[0.5, 0.0], [1.0, -2.0]]
    assert batch["reference"].tolist() == [[-1.0, 0.0], [-2.0, -3.0]]
    assert batch["mask"].tolist() == [[True, False], [True, True]]
    assert (batch["packed_source"] >= 0).sum(dim=1).tolist() == [2, 1, 2]
    assert batch["packed_labels"][torch.tensor([0, 1])].unique().tolist() == [-100, 2, 5, 6, 7]
