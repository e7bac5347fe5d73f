"""Preference pairs in the forms that other trainers read: TRL's conversational one and LLaMA-Factory's."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from deeper_assets.method.pairs import REPLAY

FACTS = ["reward_chosen", "reward_rejected", "margin", "origin", "domain", "iteration", "round", "user"]
"""Columns beside the texts, in every form; trainers ignore them."""

SPLITS: Mapping[int, str] = {0: "train", 1: "validation"}
"""A pair's `validation` → the name of its split, in the words of `datasets`."""


def pairs_of_iterations(pairs: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """The pairs of one iteration, or of both with none twice.

    Args:
        pairs: iteration → preference_pairs rows of one recipe. If both iterations are given, iteration 2's
            replays of iteration 1 are left out.

    Returns:
        FACTS, prompt, chosen, rejected and validation, in the order given. `user` is a `pseudonym`.
    """
    own = [
        (rows if len(pairs) == 1 else rows[rows["origin"] != REPLAY]).assign(iteration=iteration)
        for iteration, rows in pairs.items()
    ]
    rows = pd.concat(own, ignore_index=True)
    users = [pseudonym(*of) for of in zip(rows["domain"], rows["user_id"], strict=True)]
    return rows.assign(user=users)[["prompt", "chosen", "rejected", *FACTS, "validation"]]


def pseudonym(domain: str, user_id: str) -> str:
    """A stable name (16 hexadecimal digits) for a user: it shows which pairs belong to one person.

    It keeps a published dataset's ids out of search engines. It makes nobody anonymous: everyone who has the
    dataset can hash its ids too, and prompts quote what a user rated.
    """
    return hashlib.sha256(json.dumps([domain, user_id]).encode()).hexdigest()[:16]


def as_trl(pairs: pd.DataFrame) -> pd.DataFrame:
    """`pairs_of_iterations` as TRL's DPOTrainer takes them.

    Returns:
        prompt (a list with a user's message), chosen and rejected (lists with an assistant's), and FACTS.
    """
    messages = {
        name: [[{"role": role, "content": text}] for text in pairs[name]]
        for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    }
    return pd.DataFrame(messages).join(pairs[FACTS].reset_index(drop=True))


def as_llamafactory(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of LLaMA-Factory's Alpaca form with a ranking: instruction, input, chosen, rejected, and FACTS."""
    rows = pairs.rename(columns={"prompt": "instruction"}).assign(input="")
    columns = ["instruction", "input", "chosen", "rejected", *FACTS]
    return [{name: row[name] for name in columns} for row in rows.to_dict("records")]


def llamafactory_info(files: Mapping[str, str]) -> dict[str, Any]:
    """LLaMA-Factory's dataset_info.json, for datasets by name and the files beside it that hold them."""
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    return {name: {"file_name": file, "ranking": True, "columns": columns} for name, file in files.items()}
