from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.engines.training.examples import SOME, Group, read_groups, some_prompts, tokenized
from deeper_assets.engines.training.policies import load_tokenizer
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy

PAIR = {"prompt": "who are you ?", "chosen": "i like films", "rejected": "i dislike teas", "validation": 0}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return load_tokenizer(str(save_tiny_policy(tmp_path_factory.mktemp("base"))))


def stored(folder: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_parquet(folder / "examples.parquet")
    return folder / "examples.parquet"


def answer(group: int, completion: str, reward: float, validation: int = 0) -> dict[str, object]:
    return {
        "group": group,
        "prompt": f"group {group}",
        "completion": completion,
        "reward": reward,
        "validation": validation,
    }


def test_a_trained_policy_writes_for_different_prompts_that_validate() -> None:
    def groups(prompts: list[str], validation: bool) -> list[Group]:
        return [Group(prompt, ("a", "b"), (1.0, 0.0), validation) for prompt in prompts]

    trains = groups(["t", "u", "t"], validation=False)
    assert some_prompts([*trains, *groups(["b", "a", "b"], validation=True)]) == ["b", "a"]
    assert some_prompts(trains) == ["t", "u"]
    many = some_prompts(groups([str(number) for number in range(3 * SOME)], validation=True))
    assert many == [str(number) for number in range(0, 3 * SOME, 3)]  # spread over all of them


def test_pairs_and_groups_are_read_in_their_order(tmp_path: Path) -> None:
    path = stored(tmp_path, [PAIR, PAIR | {"chosen": "i", "validation": 1}])
    assert read_groups(path, "pairwise") == [
        Group("who are you ?", ("i like films", "i dislike teas"), (1.0, 0.0), False),
        Group("who are you ?", ("i", "i dislike teas"), (1.0, 0.0), True),
    ]
    path = stored(
        tmp_path, [answer(7, "a", 0.5), answer(3, "b", -1, 1), answer(7, "c", 2), answer(3, "d", 0, 1)]
    )
    assert read_groups(path, "lipo") == [
        Group("group 7", ("a", "c"), (0.5, 2.0), False),
        Group("group 3", ("b", "d"), (-1.0, 0.0), True),
    ]


@pytest.mark.parametrize(
    ("rows", "loss", "fault"),
    [
        ([{"prompt": "a"}], "pairwise", "no column 'chosen'"),
        ([PAIR], "lipo", "no column 'group'"),
        ([PAIR, PAIR | {"chosen": None}], "pairwise", "row 1: chosen = None, expected text"),
        ([PAIR | {"validation": 2}], "pairwise", "validation = .*2.*, expected 0 or 1"),
        ([answer(1, "a", float("nan"))], "softmax", "row 0: reward = .*nan.*, expected a number"),
        ([answer(1, "a", 1), answer(1, "b", 0) | {"prompt": "x"}], "lipo", "group 1 differ in 'prompt'"),
        ([answer(1, "a", 1), answer(1, "b", 0, 1)], "lipo", "group 1 differ in 'validation'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rows, loss, fault: str) -> None:
    with pytest.raises(DeeperError, match=fault):
        read_groups(stored(tmp_path, rows), loss)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "examples.parquet").write_text("prompt,chosen\n")
    with pytest.raises(DeeperError, match=r"examples\.parquet cannot be read as Parquet"):
        read_groups(tmp_path / "examples.parquet", "lipo")


def test_texts_become_what_the_chat_template_says(tokenizer) -> None:
    groups = [Group("who are you ?", ("i like films", "films"), (1.0, 0.0), False)]
    (example,) = tokenized(groups, tokenizer, 100, "pairwise").training
    assert tokenizer.decode(example.prompt) == "<user> who are you ? <eos> <assistant>"
    assert [tokenizer.decode(ids) for ids in example.completions] == ["i like films <eos>", "films <eos>"]


def test_a_pair_has_the_tokens_that_trl_would_give_it(tokenizer) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    row = {
        "prompt": [{"role": "user", "content": PAIR["prompt"]}],
        "chosen": [{"role": "assistant", "content": PAIR["chosen"]}],
        "rejected": [{"role": "assistant", "content": PAIR["rejected"]}],
    }
    trainer = DPOTrainer.__new__(DPOTrainer)
    (theirs,) = trainer._prepare_dataset(
        Dataset.from_list([row]), tokenizer, DPOConfig(use_cpu=True, bf16=False), "train"
    )
    pair = Group(PAIR["prompt"], (PAIR["chosen"], PAIR["rejected"]), (1.0, 0.0), False)
    (ours,) = tokenized([pair], tokenizer, 100, "pairwise").training
    assert theirs["prompt_ids"] == ours.prompt.tolist()
    assert [theirs["chosen_ids"], theirs["rejected_ids"]] == [ids.tolist() for ids in ours.completions]


def test_what_cannot_be_used_is_left_out_and_counted(tokenizer) -> None:
    # "<user> a <eos> <assistant>" is 4 tokens, and each completion has an <eos>.
    groups = [
        Group("a", ("i like films", "i like teas"), (1.0, 0.0), False),
        Group("a", ("i like films and teas", "i"), (1.0, 0.0), False),
        Group("a", ("i", "i like films and teas"), (1.0, 0.0), True),
        Group("a", ("i", "you"), (0.3, 0.3), False),
        Group("a", ("i",), (0.3,), False),
        Group("a", ("i", "you", "i like films and teas"), (1.0, 0.0, 5.0), True),
        Group("a", ("i", "you", "i like films and teas"), (1.0, 1.0, 5.0), False),
    ]
    pairs = tokenized(groups[:3], tokenizer, 8, "pairwise")
    assert (len(pairs.training), len(pairs.validation), pairs.left_out) == (1, 0, {"too_long": 2})
    whole = tokenized(groups, tokenizer, 8, "lipo")
    assert whole.left_out == {"all_equal": 2, "completion_too_long": 1, "too_long": 3}
    assert [example.rewards for example in whole.validation] == [(1.0, 0.0)]
    assert len(whole.training) == 1
