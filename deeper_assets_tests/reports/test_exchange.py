"""Pairs in other trainers' forms, worked out by hand."""

from typing import Any

import pandas as pd

from deeper_assets.reports.exchange import (
    as_llamafactory,
    as_trl,
    llamafactory_info,
    pairs_of_iterations,
    pseudonym,
)


def pair(user: str, origin: str, chosen: str, **more: Any) -> dict[str, Any]:
    return {
        **{"recipe": "paper", "domain": "book", "user_id": user, "round": 1, "pair": 0, "prompt": "P"},
        **{"chosen": chosen, "rejected": "bad", "reward_chosen": 1.5, "reward_rejected": -0.5, "margin": 2.0},
        **{"origin": origin, "validation": 0},
        **more,
    }


FIRST = pd.DataFrame([pair("a", "iteration_1", "one"), pair("b", "iteration_1", "two", validation=1)])
SECOND = pd.DataFrame([pair("a", "iteration_2", "three", round=2), pair("a", "replay", "one")])


def test_both_iterations_hold_no_pair_twice_and_one_alone_keeps_its_replay() -> None:
    both = pairs_of_iterations({1: FIRST, 2: SECOND})
    assert both[["chosen", "iteration", "round", "validation"]].values.tolist() == [
        ["one", 1, 1, 0],
        ["two", 1, 1, 1],
        ["three", 2, 2, 0],
    ]
    assert "user_id" not in both
    assert pairs_of_iterations({2: SECOND})["chosen"].tolist() == ["three", "one"]


def test_a_pseudonym_is_a_users_in_one_domain() -> None:
    names = [pseudonym(*of) for of in (("book", "a"), ("book", "b"), ("film", "a"), ("boo", "ka"))]
    assert len(set(names)) == 4
    assert names[0] == pseudonym("book", "a") == "ce8f6eea37dc9ee8"


def test_trl_gets_messages_and_the_facts_beside_them() -> None:
    (row,) = as_trl(pairs_of_iterations({1: FIRST.tail(1)})).to_dict("records")
    assert row == {
        "prompt": [{"role": "user", "content": "P"}],
        "chosen": [{"role": "assistant", "content": "two"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        **{"reward_chosen": 1.5, "reward_rejected": -0.5, "margin": 2.0, "origin": "iteration_1"},
        **{"domain": "book", "iteration": 1, "round": 1, "user": pseudonym("book", "b")},
    }


def test_llama_factory_gets_its_alpaca_form_with_a_ranking() -> None:
    (row,) = as_llamafactory(pairs_of_iterations({1: FIRST.head(1)}))
    texts = {name: row[name] for name in ("instruction", "input", "chosen", "rejected")}
    assert texts == {"instruction": "P", "input": "", "chosen": "one", "rejected": "bad"}
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    assert llamafactory_info({"mine": "train.json"}) == {
        "mine": {"file_name": "train.json", "ranking": True, "columns": columns}
    }
