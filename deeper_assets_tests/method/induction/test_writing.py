import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.candidates import CandidateDraw
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.sets import Label, Remembered, candidates_of
from deeper_assets.method.induction.writing import (
    MOST_GROUPS,
    ByPolicy,
    SetWriting,
    Written,
    parse_set,
    sample_sets,
    set_contexts,
    shown_of,
)
from deeper_assets.method.prompts import Prompts
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.fakes import ScriptedSampler
from deeper_assets_tests.method.induction.test_sets import user

BOOK = find_domain("book")
WAR = {"groups": [1], "label": "war", "description": "Reads of war."}
GREEDY, AGAIN = Decoding(temperature=0), Decoding(temperature=1)


def persona(*groups: int) -> dict[str, object]:
    return {**WAR, "groups": list(groups)}


def test_a_set_is_read_in_its_order_and_none_is_a_set_too() -> None:
    answer = json.dumps([persona(2, 3), WAR])
    label = Label("war", "Reads of war.")
    assert parse_set(f"```json\n{answer}\n```", 3) == (Written((1, 2), label), Written((0,), label))
    assert parse_set("[]", 3) == ()
    assert parse_set(json.dumps({"personas": [WAR]}), 1) == (Written((0,), label),)
    assert parse_set(json.dumps(WAR), 1) == (Written((0,), label),)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json.dumps([persona(1), persona(2, 1)]), "repeated_group"),
        (json.dumps([persona(4)]), "no_such_number"),
        (json.dumps([persona(0)]), "no_such_number"),
        (json.dumps([persona()]), "no_evidence"),
        (json.dumps([{**WAR, "label": "--"}]), "no_label"),
        (json.dumps([{"groups": [1], "label": "war"}]), "no_label"),
        (json.dumps([WAR])[:-1], "no_json"),
        ("none", "no_json"),
        ("", "no_answer"),
    ],
)
def test_whatever_is_no_set_is_unreadable(answer: str, reason: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{reason}$"):
        parse_set(answer, 3)


OTHERS = [user(f"o{number}", "abcdabcdabcd") for number in range(3)]
SOMEBODY = user("u", "aabaaacab", trains=False)
INTENTS = [f"{letter} {place}" for place, letter in enumerate("aabaaacab")]


def test_a_policy_sees_what_came_twice_the_largest_first_with_its_latest_intents() -> None:
    [found] = candidates_of([SOMEBODY], OTHERS, 0.3, 0.5, 2)
    shown = shown_of(SOMEBODY, INTENTS, 9, found, BOOK, Prompts())
    assert shown is not None
    assert [list(places) for places in shown.groups] == [[0, 1, 3, 4, 5, 7], [2, 8]]
    assert "- 1 (6 of 10 sessions, the last 2 ago; 67 %, 25 % of others): a 7; a 5; a 4\n" in shown.prompt
    assert "- 2 (2 of 10 sessions, the last 1 ago; 22 %, 25 % of others): b 8; b 2\n" in shown.prompt
    assert "c 6" not in shown.prompt
    assert (
        shown_of(SOMEBODY, INTENTS, 9, [one for one in found if one.sessions == 1], BOOK, Prompts()) is None
    )


def test_no_prompt_shows_more_groups_than_agreed() -> None:
    many = np.repeat(np.arange(20), 2)
    numbers = np.arange(40)
    one = Remembered(
        "u", False, numbers, numbers, numbers // 4, np.ones(40, dtype=np.int64), np.eye(20)[many]
    )
    [found] = candidates_of([one], [], 0.3, 0.5, 9)
    shown = shown_of(one, [str(number) for number in numbers], 39, found, BOOK, Prompts())
    assert shown is not None
    assert len(shown.groups) == MOST_GROUPS
    assert f"- {MOST_GROUPS + 1} " not in shown.prompt


def by_policy(write: Callable[[str, int], Sample], asks: int = 2) -> tuple[ByPolicy, ScriptedSampler]:
    sampler = ScriptedSampler(write)
    writing = SetWriting(GREEDY, AGAIN, 1, asks)
    return ByPolicy({"u": INTENTS}, sampler, writing, 0.3, 0.5, BOOK, Prompts()), sampler


def finished(text: str) -> Sample:
    return Sample(text, 1, finished=True)


def test_what_a_policy_writes_is_kept_where_it_is_more_than_chance_and_named_by_it() -> None:
    policy, sampler = by_policy(lambda prompt, seed: finished(json.dumps([persona(2), persona(1)])))
    [made] = policy([SOMEBODY], OTHERS, 2, [9])
    assert made is not None
    kept, dropped = made
    assert [(list(one.places), one.label) for one in kept] == [
        ([0, 1, 3, 4, 5, 7], Label("war", "Reads of war."))
    ]
    assert [(list(one.places), one.dropped) for one in dropped] == [([2, 8], "chance"), ([6], "once")]
    assert [(len(prompts), decoding) for prompts, _, decoding in sampler.calls] == [(1, GREEDY)]
    assert policy.writings("book", "untrained").to_dict("records") == [
        {
            **{"domain": "book", "inducer": "untrained", "user_id": "u", "window": 2},
            **{"text": json.dumps([persona(2), persona(1)]), "note": None, "attempts": 1},
            "model": "scripted-policy-1",
        }
    ]


def test_groups_in_one_persona_are_measured_together_and_those_left_out_are_dropped() -> None:
    policy, _ = by_policy(lambda prompt, seed: finished(json.dumps([persona(1, 2)])))
    [made] = policy([SOMEBODY], OTHERS, 2, [9])
    assert made is not None
    assert list((*made[0], *made[1])[0].places) == [0, 1, 2, 3, 4, 5, 7, 8]
    nothing, _ = by_policy(lambda prompt, seed: finished("[]"))
    [none] = nothing([SOMEBODY], OTHERS, 2, [9])
    assert none is not None
    assert (none[0], [one.dropped for one in none[1]]) == ([], ["left_out", "left_out", "once"])


def test_an_unreadable_set_is_asked_for_again_and_at_last_nothing_is_known() -> None:
    policy, sampler = by_policy(lambda prompt, seed: finished("no"))
    assert policy([SOMEBODY], OTHERS, 2, [9]) == [None]
    assert [decoding for _, _, decoding in sampler.calls] == [GREEDY, AGAIN]
    assert policy.rows == [("u", 2, "no", "no_json", 2, "scripted-policy-1")]
    cut, _ = by_policy(lambda prompt, seed: Sample("[]", 1, finished=False), asks=1)
    assert cut([SOMEBODY], OTHERS, 2, [9]) == [None]
    assert cut.rows[0][3] == "cut_off"


def test_nobody_is_asked_about_who_shows_nothing_twice() -> None:
    policy, sampler = by_policy(lambda prompt, seed: finished("[]"))
    once = user("u", "abc", trains=False)
    [made] = policy([once], OTHERS, 0, [3])
    assert made is not None
    assert (made[0], [one.dropped for one in made[1]]) == ([], ["once"] * 3)
    assert all(prompts == [] for prompts, _, _ in sampler.calls)


def test_contexts_are_those_of_training_users_with_a_window_to_come() -> None:
    users = [user("u", "aabaaacab" * 3), user("v", "aabaaacabaab"), user("w", "abcd" * 7, trains=False)]
    intents = [list(map(str, one.memory)) for one in users]
    events = pd.DataFrame(
        [
            (one.user_id, window, 4 * window + 3)
            for one in users
            for window in range(len(one.memory) // 4 + 1)
        ],
        columns=["user_id", "window", "session"],
    )
    made = set_contexts(users, intents, events, 0.5, BOOK, Prompts())
    assert list(made.set_contexts[["user_id", "window"]].itertuples(index=False, name=None)) == [
        *(("u", 2), ("v", 2), ("u", 4))
    ]
    later = made.set_groups[(made.set_groups["user_id"] == "u") & (made.set_groups["window"] == 2)]
    assert later["memory"].max() < 12, "memories of later windows stand in no prompt"


def test_equal_texts_are_one_candidate_and_what_is_no_set_has_a_reason() -> None:
    contexts = pd.DataFrame(
        [("book", "u", 2, 1, "prompt")], columns=["domain", "user_id", "window", "groups", "prompt"]
    )
    texts = iter(["[]", json.dumps([persona(2)]), "[]", "[", "[]"])
    sampler = ScriptedSampler(lambda prompt, seed: Sample(text := next(texts), 3, finished=text != "["))
    rows = sample_sets(contexts, sampler, CandidateDraw(AGAIN, 4, seed=1))
    assert rows[["candidate", "copies", "unusable"]].values.tolist() == [
        *([0, 2, None], [1, 1, "no_such_number"], [3, 1, "truncated"])
    ]
    assert len(set(sampler.calls[0][1][0])) == 4, "every sample has a seed of its own"


def test_naming_few_groups_loosens_no_threshold() -> None:
    """The best of a wanderer's groups is no persona because a policy names it alone."""
    chance = np.random.default_rng(0)
    others = [user(f"o{number}", "".join(chance.choice(list("abcd"), 28))) for number in range(30)]
    kept = {"all": 0, "one": 0}
    for _ in range(60):
        one = user("u", "".join(chance.choice(list("abcd"), 28)), trains=False)
        [found] = candidates_of([one], others, 0.3, 0.5, 6)
        kept["all"] += sum(own.dropped is None for own in found)
        order = sorted(found, key=lambda own: (-int(own.sessions), int(own.places[0])))
        best = 1 + max(range(len(order)), key=lambda at: order[at].share - order[at].chance)
        policy, _ = by_policy(lambda prompt, seed, best=best: finished(json.dumps([persona(best)])))
        policy.intents["u"] = list(map(str, one.memory))
        [made] = policy([one], others, 6, [27])
        assert made is not None
        kept["one"] += len(made[0])
    assert kept["one"] <= kept["all"]


def test_groups_that_a_prompt_does_not_show_are_not_left_out_by_the_policy() -> None:
    many, numbers = np.repeat(np.arange(20), 2), np.arange(40)
    ones = np.ones(40, dtype=np.int64)
    one = Remembered("u", False, numbers, numbers, numbers // 4, ones, np.eye(20)[many])
    other = Remembered("o", True, numbers, numbers, numbers // 4, ones, np.eye(20)[many[::-1] // 2])
    policy, _ = by_policy(lambda prompt, seed: finished("[]"))
    policy.intents["u"] = list(map(str, numbers))
    [made] = policy([one], [other], 9, [39])
    assert made is not None
    reasons = [own.dropped for own in made[1]]
    assert reasons.count("left_out") == MOST_GROUPS
    assert set(reasons) <= {"left_out", "chance", "not_shown"}
