import math

import pytest

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.claims import (
    MOST_CLAIMS,
    Verdict,
    alignment_and_truthfulness,
    claims_of,
    judge,
    parse_verdicts,
)
from deeper_assets.method.prompts import Prompts
from deeper_assets_tests.fakes import ScriptedChat

BOOK = find_domain("book")


def verdict(*shown_by: int, contradicted: bool = False) -> Verdict:
    return Verdict(frozenset(shown_by), contradicted)


def test_claims_are_sentences_and_a_repeated_one_is_one() -> None:
    assert claims_of("Likes war. Never cared\nfor love!  Likes war. So?") == [
        *("Likes war.", "Never cared for love!", "So?")
    ]
    assert claims_of("no end") == ["no end"]


def test_verdicts_come_in_the_order_of_the_claims() -> None:
    answer = """```json
    [{"claim": 2, "shown_by": [], "contradicted": true}, {"claim": "1", "shown_by": ["3", 1]}]
    ```"""
    assert parse_verdicts(answer, 2, 3) == (verdict(0, 2), verdict(contradicted=True))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("[]", "wrong_verdicts"),
        ('[{"claim": 1, "shown_by": []}, {"claim": 1, "shown_by": []}]', "wrong_verdicts"),
        ('[{"claim": 1, "shown_by": [], "contradicted": "maybe"}]', "wrong_verdicts"),
        ('[{"claim": 1, "shown_by": [4], "contradicted": false}]', "no_such_number"),
        ('[{"claim": 2, "shown_by": [1], "contradicted": false}]', "no_such_number"),
        ('[{"claim": [], "shown_by": [1], "contradicted": false}]', "wrong_verdicts"),
        ('[{"shown_by": [1], "contradicted": false}]', "no_such_number"),
        ("both are true", "no_json"),
        (None, "no_answer"),
    ],
)
def test_other_answers_are_unreadable(answer: str | None, reason: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{reason}$"):
        parse_verdicts(answer, 1, 3)


def test_a_claim_is_aligned_by_its_own_evidence_and_true_by_any() -> None:
    verdicts = {
        "war": verdict(1, 2),
        "love": verdict(5),
        "none": verdict(),
        "not war": verdict(2, contradicted=True),
    }
    own = frozenset({1, 2})
    assert alignment_and_truthfulness([(["war", "love", "none", "not war"], own)], verdicts) == (0.25, 0.5)


def test_a_claim_that_is_made_twice_counts_once_for_the_first() -> None:
    verdicts = {"war": verdict(1), "love": verdict(5)}
    personas = [(["war"], frozenset({1})), (["war", "love"], frozenset({9}))]
    assert alignment_and_truthfulness(personas, verdicts) == (0.5, 1.0)


def test_without_claims_there_is_no_credit_and_without_verdicts_nothing_is_known() -> None:
    assert alignment_and_truthfulness([], {}) == (0.0, 0.0)
    assert all(map(math.isnan, alignment_and_truthfulness([(["war"], frozenset({1}))], {"war": None})))


def test_many_claims_are_asked_in_several_questions_and_one_unread_answer_costs_only_its_own() -> None:
    claims = [f"claim {number}." for number in range(MOST_CLAIMS + 1)]
    last = '[{"claim": 1, "shown_by": [2], "contradicted": false}]'
    chat = ScriptedChat(lambda prompt, _: last if "claim 40." in prompt else "no idea")
    [answers] = judge(ChatSetup(chat, Prompts(), 1), BOOK, [(claims, ["a", "b"])])
    assert answers["claim 0."] == (None, "no_json")
    assert answers[claims[-1]] == (verdict(1), None)
    (first, _), (second, _) = chat.asked
    assert "- 40: claim 39." in first
    assert "- 1: claim 40.\n" in second
    assert "- 2: b\n" in second
