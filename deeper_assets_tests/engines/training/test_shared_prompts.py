from pathlib import Path

import torch

from deeper_assets.engines.training import shared_prompts
from deeper_assets.engines.training.shared_prompts import SharedPrompts, pack
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy

PROMPTS = [[3, 5, 6, 7, 2, 4], [3, 9, 4]]
ROWS = [(0, [8, 9, 2]), (1, [10, 2]), (0, [11, 2]), (1, [12, 13, 14, 5, 2])]


def test_branches_lie_behind_their_prompt_and_see_nothing_else() -> None:
    batch = pack(PROMPTS, ROWS, pad_token_id=0)
    assert batch["packed_ids"][1].tolist() == [3, 9, 4, 10, 2, 4, 12, 13, 14, 5, 2, 0]
    assert batch["packed_positions"][1].tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 0]
    assert batch["packed_labels"][1].tolist() == [-100] * 3 + [10, 2, -100, 12, 13, 14, 5, 2, -100]
    mask = batch["packed_mask"][1, 0]
    assert [key for key in range(12) if mask[4, key]] == [0, 1, 2, 3, 4]
    assert [key for key in range(12) if mask[7, key]] == [0, 1, 5, 6, 7]
    assert batch["packed_source"].shape == (4, 8)
    assert batch["packed_source"][1].tolist() == [-1, -1, 11 + 2, 11 + 3, -1, -1, -1, -1]


def test_scores_and_gradients_are_those_of_reading_every_row_whole(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(save_tiny_policy(tmp_path))
    expected = torch.zeros(4, 8)
    for row, (prompt, completion) in enumerate(ROWS):
        ids = torch.tensor([PROMPTS[prompt] + completion])
        logps = model(ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None]).squeeze(1)
        start = len(PROMPTS[prompt]) - 1
        expected[row, start : start + len(completion)] = logps[start:]
    slope = torch.autograd.grad(expected.sum(), model.model.embed_tokens.weight)[0]

    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    batch = pack(PROMPTS, ROWS, pad_token_id=0)
    shared, vocabulary = SharedPrompts(model), model.config.vocab_size
    by_tiles = shared.log_probs(batch, vocabulary=shared_prompts.SMALL_LOGITS)
    for found in (shared(**batch).log_probs, shared.log_probs(batch, vocabulary), by_tiles):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        found_slope = torch.autograd.grad(found.sum(), model.model.embed_tokens.weight)[0]
        torch.testing.assert_close(found_slope, slope, atol=1e-5, rtol=1e-4)
