from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.induction.sets import (
    Candidate,
    Lasting,
    Remembered,
    candidates_of,
    dealt,
    personas_of,
    remembered,
)

THEMES = np.eye(4)


def user(name: str, themes: str, trains: bool = True, events: int = 1) -> Remembered:
    """A memory a session, of the themes `a` to `d`; `-` is one that nothing is known of."""
    numbers = np.arange(len(themes))
    vectors = np.array([THEMES["abcd".index(theme)] if theme != "-" else np.zeros(4) for theme in themes])
    held = vectors.reshape(-1, 4)
    return Remembered(name, trains, numbers, numbers, numbers // 4, np.full(len(themes), events), held)


def told(found: list[Candidate]) -> list[tuple[list[int], int, str | None]]:
    return [(list(one.places), one.sessions, one.dropped) for one in found]


def test_a_cluster_is_kept_if_its_user_does_more_of_it_than_others_do() -> None:
    others = [user(f"o{number}", "abcdabcdabcd") for number in range(3)]
    one = user("u", "aaaaaaaabbcc", trains=False)
    [found] = candidates_of([one], others, rate=0.2, reach=0.5, window=99)
    assert told(found) == [
        (list(range(8)), 8, None),
        ([8, 9], 2, "chance"),
        ([10, 11], 2, "chance"),
    ]
    assert [one.share for one in found] == pytest.approx([8 / 12, 2 / 12, 2 / 12])
    assert [one.chance for one in found] == pytest.approx([0.25, 0.25, 0.25])


def test_events_count_and_not_memories() -> None:
    others = [user(f"o{number}", "abcd") for number in range(3)]
    few, many = user("u", "aab"), replace(user("v", "aab"), events=np.array([9, 9, 1]))
    (of_few, of_many) = candidates_of([few, many], others, rate=0.2, reach=0.5, window=99)
    assert of_few[0].dropped == "chance"
    assert (of_many[0].share, of_many[0].dropped) == (18 / 19, None)


def test_who_wanders_session_by_session_has_few_personas() -> None:
    """Each session is about one of four things, whoever the person; its five events count as about one."""
    chance = np.random.default_rng(0)

    def wanderer(name: str) -> Remembered:
        return user(name, "".join(chance.choice(list("abcd"), 28)), events=5)

    others = [wanderer(f"o{number}") for number in range(30)]
    found = candidates_of(
        [wanderer(f"u{number}") for number in range(60)], others, rate=0.3, reach=0.5, window=99
    )
    some = sum(any(one.dropped is None for one in own) for own in found)
    assert some <= 0.3 * 60
    # So many have none because of what little their p-values say, and not because of `once` and `alone`.
    assert {one.dropped for own in found for one in own} <= {None, "chance"}


def test_what_came_once_is_dropped_however_unlikely() -> None:
    others = [user(f"o{number}", "abcc") for number in range(3)]
    one = replace(user("u", "d"), events=np.array([40]))
    [[found]] = candidates_of([one], others, rate=0.5, reach=0.5, window=99)
    assert found.p_value < 1e-9
    assert found.dropped == "once"


def test_nobody_is_compared_with_themselves() -> None:
    alone = user("u", "aaaa")
    [[found]] = candidates_of([alone], [alone], rate=0.5, reach=0.5, window=99)
    assert (np.isnan(found.chance), np.isnan(found.p_value), found.dropped) == (True, True, "alone")
    [[found]] = candidates_of([alone], [alone, user("v", "bbbb")], rate=0.5, reach=0.5, window=99)
    assert (found.chance, found.dropped) == (1 / 4, None)  # never none: one event of the others'


def test_of_nobody_and_of_whoever_remembers_nothing_there_are_no_clusters() -> None:
    others = [user("o", "abcd")]
    assert candidates_of([], others, rate=0.5, reach=0.5, window=99) == []
    assert candidates_of([user("u", ""), user("v", "aab")], [], rate=0.5, reach=0.5, window=99)[0] == []


def test_the_order_of_users_changes_nothing() -> None:
    people = [user("u", "aaab"), user("v", "bbbc"), user("w", "abcd")]
    forth, back = (candidates_of(some, some, 0.5, 0.5, 2) for some in (people, people[::-1]))
    assert [told(found) for found in forth] == [told(found) for found in back[::-1]]


def test_inducers_keep_what_they_say() -> None:
    one = user("u", "aaaaaaaabbcc")
    [found] = candidates_of([one], [user("o", "abcdabcdabcd"), one], rate=0.2, reach=0.5, window=99)
    kept = {
        inducer: [list(persona.places) for persona in personas_of(one, found, inducer)[0]]
        for inducer in ("clusters", "every_cluster", "one_persona")
    }
    assert kept["clusters"] == [list(range(8))]
    assert kept["every_cluster"] == [list(range(8)), [8, 9], [10, 11]]
    assert kept["one_persona"] == [list(range(12))]
    assert [one.dropped for one in personas_of(one, found, "clusters")[1]] == ["chance", "chance"]
    assert np.isnan(personas_of(one, found, "one_persona")[0][0].share), "it is not measured"


def test_chance_deals_as_many_memories_and_none_twice() -> None:
    one = replace(user("u", "aaaabbbbcccc"), session=np.arange(12) // 2)
    hands = dealt(one, kept([0, 1, 2, 3], [4, 5, 6, 7]), seed=1)
    places = [place for hand in hands for place in hand.places]
    assert len(places) == len(set(places)) == 8
    assert places != list(range(8))
    assert [hand.sessions for hand in hands] == [len(set(one.session[hand.places])) for hand in hands]


def kept(*sets: list[int]) -> list[Candidate]:
    return [Candidate(np.array(places), len(places), 0.5, 0.1, 0.01, None) for places in sets]


def states(lasting: Lasting, one: Remembered, *sets: list[int]) -> list[tuple[int, str]]:
    now = int(one.session.max())
    return [(persona.number, persona.state) for persona in lasting.next_set(one, kept(*sets), now)]


def test_a_persona_keeps_its_id_while_more_than_half_of_its_memories_stay() -> None:
    lasting = Lasting()
    one = user("u", "aabbaabb")
    assert states(lasting, one.at(np.arange(4)), [0, 1], [2, 3]) == [(0, "new"), (1, "new")]
    assert states(lasting, one, [2, 3, 6], [0, 1, 4, 5]) == [(0, "changed"), (1, "changed")]
    assert states(lasting, one, [0, 1, 4, 5], [2, 3, 6]) == [(0, "same"), (1, "same")]
    # Half of persona 0 is not more than half: what is left of it is another one, and it has ended.
    assert states(lasting, one, [0, 1, 7], [2, 3, 6]) == [(0, "ended"), (1, "same"), (2, "new")]
    assert states(lasting, one, [2, 3, 6]) == [(1, "same"), (2, "ended")]
    # A persona that comes back is the one it was.
    assert states(lasting, one, [0, 1, 7], [2, 3, 6]) == [(1, "same"), (2, "changed")]


def test_of_personas_that_merge_the_largest_goes_on_and_one_that_is_rather_than_was() -> None:
    one = user("u", "ab" * 15)
    lasting = Lasting()
    assert states(lasting, one, [27, 29], [*range(27), 28]) == [(0, "new"), (1, "new")]
    assert states(lasting, one, list(range(30))) == [(0, "ended"), (1, "changed")]
    lasting, one = Lasting(), user("u", "ab" * 10)
    even, odd = list(range(0, 20, 2)), list(range(1, 20, 2))
    assert states(lasting, one, even, odd) == [(0, "new"), (1, "new")]
    # Six of ten stay in one set, which half of the other persona has come to; half is not enough.
    assert states(lasting, one, even[4:] + odd[5:]) == [(0, "changed"), (1, "ended")]


def test_a_persona_ends_when_it_is_silent_for_longer_than_is_likely() -> None:
    lasting = Lasting()
    one = user("u", "ababab" + "b" * 6)
    # In three sessions from 0 to 4; after five silent ones, (1 - 3/6) ** 5 is below 0.05.
    for sessions, state in ((6, "new"), (9, "same"), (10, "ended")):
        assert states(lasting, one.at(np.arange(sessions)), [0, 2, 4]) == [(0, state)]
    assert states(lasting, one.at(np.arange(11)), [0, 2, 4]) == []


def test_memories_are_taken_by_user_with_their_events() -> None:
    rows = [("u", 0, 0), ("u", 1, 5), ("v", 0, 2)]
    memories = pd.DataFrame(rows, columns=["user_id", "memory", "session"]).assign(
        window=lambda own: own["session"] // 4
    )
    # The second event of `u` is cited twice, and counts for the first memory alone.
    cited = [("u", 0, 0, 0), ("u", 0, 0, 1), ("u", 1, 0, 1), ("u", 1, 5, 0), ("v", 0, 2, 0)]
    evidence = pd.DataFrame(cited, columns=["user_id", "memory", "session", "event"])
    u, v = remembered(memories, evidence, {"u": "train", "v": "eval"}, np.eye(3))
    assert (u.user_id, u.trains, list(u.session), list(u.window), list(u.events)) == (
        "u",
        True,
        [0, 5],
        [0, 1],
        [2, 1],
    )
    assert (v.user_id, v.trains, list(v.vectors[0])) == ("v", False, [0, 0, 1])
    assert list(u.up_to(0).memory) == [0]


def test_where_nobody_says_what_has_changed_a_set_stays_as_it_was() -> None:
    lasting, one = Lasting(), user("u", "ababab")
    assert states(lasting, one, [0, 2, 4], [1, 3, 5]) == [(0, "new"), (1, "new")]
    assert states(lasting, one, [0, 2, 4]) == [(0, "same"), (1, "ended")]
    assert [(row.number, row.state) for row in lasting.unchanged()] == [(0, "same")]
    assert states(lasting, one, [0, 2, 4, 5]) == [(0, "changed")]
