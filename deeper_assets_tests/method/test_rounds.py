"""Asking and rounds, with a chat model whose every answer is written here."""

import json
import re

import pandas as pd
import pytest

from deeper_assets.assets.evaluation import round_errors
from deeper_assets.method.asking import ChatSetup, ask, ask_predictions
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.histories import histories
from deeper_assets.method.initial import initial_personas, initial_predictions
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets.method.rounds import Rounds, kept, mark_kept, play_rounds
from deeper_assets.method.updates import PROMPT_METHODS, PolicyWriting, UpdateMethod, by_policy
from deeper_assets_tests.fakes import ScriptedChat, ScriptedSampler

BOOK = find_domain("book")
PROMPTS = Prompts.load({}, persona_words=20)


def windows(users: dict[str, tuple[str, list[list[float]]]]) -> pd.DataFrame:
    """rating_windows rows: user -> split and the ratings of W0, W1, … (an empty list: no usable rating)."""
    rows = [
        ("book", user, split, w, place, f"{user} {w}.{place}", f"Title {user} {w} {place}", rating, None)
        for user, (split, history) in users.items()
        for w, ratings in enumerate(history)
        for place, rating in enumerate(ratings)
    ]
    columns = ["domain", "user_id", "split", "window", "place", "item_id", "title", "rating", "rated_at"]
    return pd.DataFrame(rows, columns=columns)


def always(rating: float, prompt: str) -> str:
    """A prediction of the same rating for every item asked about."""
    items = re.search(r"<items>\n(.*?)\n</items>", prompt, re.DOTALL)
    assert items, prompt
    return json.dumps([{"item": line.removeprefix("- "), "rating": rating} for line in items[1].splitlines()])


GREEDY = Decoding(temperature=0, top_p=1, repetition_penalty=1, max_new_tokens=9)
DRAWN = Decoding(temperature=1, top_p=0.9, repetition_penalty=1, max_new_tokens=9)


def policy(sampler: ScriptedSampler, template: str = "refinement") -> UpdateMethod:
    return by_policy(sampler, PolicyWriting(template, GREEDY, DRAWN, 7))


def play(
    chat: ScriptedChat, frame: pd.DataFrame, method: str, asks: int = 1, by: UpdateMethod | None = None
) -> Rounds:
    """The rounds of a method by prompts, or (`by`) of another under that name."""
    setup = ChatSetup(chat, PROMPTS, asks)
    personas = initial_personas(frame, BOOK, setup)
    predictions = initial_predictions(frame, personas, BOOK, setup)
    chat.asked.clear()
    return play_rounds(frame, personas, predictions, method, by or PROMPT_METHODS[method], BOOK, setup)


def steady(prompt: str, attempt: int) -> str:
    return always(4, prompt) if "<items>" in prompt else "A persona that likes things of many kinds."


def refined(prompt: str, seed: int) -> Sample:
    """What the policy makes of a window: a persona that names the window's first title's number."""
    return Sample(f"Refined by W{re.findall(r'Title . ([0-9])', prompt)[0]}.", 4, True)


FULL = [[5.0, 4.0]] * 7


def test_short_histories_get_personas_as_far_as_their_windows_reach_and_are_in_no_error() -> None:
    frame = windows(
        {
            **{"e": ("eval", FULL), "t": ("train", FULL)},
            **{"three": ("short", FULL[:3]), "one": ("short", FULL[:1])},
        }
    )
    setup = ChatSetup(ScriptedChat(steady), PROMPTS, 1)
    written = initial_personas(frame, BOOK, setup)
    assert dict(zip(written["user_id"], written["split"], strict=True)) == {
        **{"e": "eval", "t": "train", "three": "short", "one": "short"},
    }
    played = play(ScriptedChat(steady), frame, "inc_update")
    assert played.personas.groupby("user_id")["round"].max().to_dict() == {"e": 4, "three": 2, "one": 0}
    assert played.personas["persona"].notna().all()
    assert played.predictions.groupby("user_id")["round"].max().to_dict() == {"e": 4, "three": 1}
    errors = round_errors(frame, played.personas, played.predictions).value
    assert errors[["user_id", "round"]].to_numpy().tolist() == [["e", round_] for round_ in range(5)]
    assert (errors["error"] == 0.5).all()
    alone = frame[frame["split"] == "eval"]
    without = play(ScriptedChat(steady), alone, "inc_update")
    pd.testing.assert_frame_equal(errors, round_errors(alone, without.personas, without.predictions).value)


def test_unreadable_answers_are_asked_again_and_then_counted() -> None:
    chat = ScriptedChat(
        lambda prompt, attempt: {"good": "7", "late": "7" if attempt else "x"}.get(prompt, "x")
    )

    def read(answer: str | None) -> int:
        if answer == "x":
            raise UnreadableAnswer("not_a_number")
        return int(answer or 0)

    replies = ask(chat, ["good", "late", "never"], [read] * 3, asks=3)
    assert [(r.value, r.note, r.attempts) for r in replies] == [
        (7, None, 1),
        (7, None, 2),
        (None, "not_a_number", 3),
    ]
    # Only the unread ones are asked again.
    assert [prompt for prompt, attempt in chat.asked if attempt == 2] == ["never"]


def test_a_reader_that_breaks_is_no_unreadable_answer() -> None:
    def broken(answer: str | None) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(ScriptedChat(lambda *_: "x"), ["p"], [broken], asks=2)


def test_no_persona_no_question() -> None:
    chat = ScriptedChat(steady)
    replies = ask_predictions(ChatSetup(chat, PROMPTS, 1), BOOK, [(None, [RatedItem("T", 1.0)])])
    assert (replies[0].value, replies[0].note, chat.asked) == (None, "no_persona", [])


def test_initial_predictions_cover_what_contexts_and_round_0_need() -> None:
    frame = windows({"t": ("train", FULL), "e": ("eval", FULL)})
    setup = ChatSetup(ScriptedChat(steady), PROMPTS, 1)
    got = initial_predictions(frame, initial_personas(frame, BOOK, setup), BOOK, setup)
    assert got.groupby(["user_id", "window"]).size().to_dict() == {
        ("e", 1): 2, ("t", 0): 2, ("t", 1): 2, ("t", 2): 2
    }  # fmt: skip
    assert set(got["predicted"]) == {4.0}


@pytest.mark.parametrize("method", list(PROMPT_METHODS))
def test_rounds_of_a_full_history(method: str) -> None:
    frame = windows({"t": ("train", FULL), "e": ("eval", FULL)})
    got = play(ScriptedChat(steady), frame, method)
    assert got.personas["round"].tolist() == [0, 1, 2, 3, 4]
    assert set(got.personas["user_id"]) == {"e"}
    assert got.predictions.groupby("round")["window"].agg(list).to_dict() == {
        r: [r + 1] * 2 for r in range(5)
    }
    assert got.predictions["note"].isna().all()


def test_each_update_sees_what_the_paper_lets_it_see() -> None:
    frame = windows({"e": ("eval", FULL)})

    def titles_shown(method: str, call: int) -> set[int]:
        chat = ScriptedChat(steady)
        play(chat, frame, method)
        update = [prompt for prompt, _ in chat.asked if "<items>" not in prompt][call]
        return {int(w) for w in re.findall(r"Title e (\d)", update)}

    assert titles_shown("full_regen", 2) == {0, 1, 2, 3}
    assert titles_shown("slide_regen", 2) == {3}
    assert titles_shown("inc_update", 2) == {3}
    assert titles_shown("hier_merge", 4) == {3}  # short-term and merge take turns


COMPARED = re.compile(r"predicted ([\d.]+), actual ([\d.]+)")


def test_prompts_to_the_chat_model_show_no_predictions() -> None:
    for method in PROMPT_METHODS:
        chat = ScriptedChat(steady)
        play(chat, windows({"e": ("eval", FULL)}), method)
        updates = [prompt for prompt, _ in chat.asked if "<items>" not in prompt]
        assert len(updates) >= 4
        assert not any(COMPARED.search(prompt) for prompt in updates), method


def test_a_policy_refines_by_predicted_against_actual() -> None:
    chat, sampler = ScriptedChat(steady), ScriptedSampler(refined)
    got = play(chat, windows({"e": ("eval", FULL)}), "mine", by=policy(sampler))
    assert not [prompt for prompt, _ in chat.asked if "<items>" not in prompt]  # predictions alone are asked
    prompts = [prompt for prompts, _, _ in sampler.calls for prompt in prompts]
    assert [COMPARED.findall(prompt) for prompt in prompts] == [[("4", "5"), ("4", "4")]] * 4
    assert [set(re.findall(r"Title e (\d)", prompt)) for prompt in prompts] == [{"1"}, {"2"}, {"3"}, {"4"}]
    assert "A persona that likes things of many kinds." in prompts[0]
    assert "Refined by W1." in prompts[1]
    assert [decoding for _, _, decoding in sampler.calls] == [GREEDY] * 4
    personas = got.personas.set_index("round")
    assert personas["persona"].tolist()[1:] == [f"Refined by W{w}." for w in (1, 2, 3, 4)]
    assert personas["model"].tolist() == ["scripted-1"] + ["scripted-policy-1"] * 4
    assert set(got.predictions["model"]) == {"scripted-1"}
    assert set(got.personas["method"]) == {"mine"}


def test_a_policy_of_incupdates_prompt_sees_ratings_and_no_predictions() -> None:
    sampler = ScriptedSampler(refined)
    play(ScriptedChat(steady), windows({"e": ("eval", FULL)}), "mine", by=policy(sampler, "inc_update"))
    prompts = [prompt for prompts, _, _ in sampler.calls for prompt in prompts]
    assert not any(COMPARED.search(prompt) for prompt in prompts)
    assert all("- rated 5: Title e 1 0" in prompt for prompt in prompts[:1])


def test_a_policys_seeds_differ_by_user_and_round_and_by_nothing_else() -> None:
    def seeds(users: dict[str, tuple[str, list[list[float]]]]) -> dict[tuple[str, str], int]:
        sampler = ScriptedSampler(refined)
        play(ScriptedChat(steady), windows(users), "mine", by=policy(sampler))
        return {
            (*re.findall(r"Title (.) (\d)", prompt)[0],): seed
            for prompts, of, _ in sampler.calls
            for prompt, (seed,) in zip(prompts, of, strict=True)
        }

    both = seeds({"e": ("eval", FULL), "f": ("eval", FULL)})
    assert len(set(both.values())) == len(both) == 2 * 4
    alone = seeds({"f": ("eval", [[1.0]] * 7)})
    assert alone == {key: seed for key, seed in both.items() if key[0] == "f"}


@pytest.mark.parametrize(
    ("sample", "note"),
    [
        (Sample("Someone who likes th", 9, False), "kept: truncated"),
        (Sample("", 0, True), "kept: empty"),
        (Sample("I'm sorry, but I can't do that.", 9, True), "kept: empty"),
        (Sample("- predicted 4, actual 5: Title e 2 0", 9, True), "kept: echo"),
        (Sample("Likes crime. </persona> Or not.", 9, True), "kept: echo"),
    ],
)
def test_a_text_that_cannot_be_used_keeps_the_old_persona(sample: Sample, note: str) -> None:
    def write(prompt: str, seed: int) -> Sample:
        return sample if "Title e 2 0" in prompt else refined(prompt, seed)

    sampler = ScriptedSampler(write)
    got = play(ScriptedChat(steady), windows({"e": ("eval", FULL)}), "mine", by=policy(sampler))
    personas = got.personas.set_index("round")
    assert personas["persona"].tolist()[1:] == [f"Refined by W{w}." for w in (1, 1, 3, 4)]
    assert personas["note"].tolist() == [None, None, note, None, None]
    assert (personas.loc[2, "model"], personas.loc[2, "attempts"]) == ("scripted-policy-1", 1)
    assert got.predictions["predicted"].tolist() == [4.0] * 10  # as any other persona does
    assert kept(got.personas).tolist() == [False, False, True, False, False]


def test_a_policy_draws_again_what_cannot_be_used_and_nothing_else() -> None:
    """With three asks, of two users: one text is cut, then empty, then a persona."""
    answers = iter([Sample("Someone who li", 9, False), Sample("", 0, True), Sample("Likes crime.", 3, True)])

    def write(prompt: str, seed: int) -> Sample:
        return next(answers) if "Title a 1 0" in prompt else refined(prompt, seed)

    sampler = ScriptedSampler(write)
    frame = windows({user: ("eval", [[5.0]] * 2) for user in "ab"})
    got = play(ScriptedChat(steady), frame, "mine", asks=3, by=policy(sampler))
    first = got.personas[got.personas["round"] == 1].set_index("user_id")
    assert first["persona"].to_dict() == {"a": "Likes crime.", "b": "Refined by W1."}
    assert first["attempts"].to_dict() == {"a": 3, "b": 1}
    assert not kept(got.personas).any()
    assert [(len(prompts), decoding) for prompts, _, decoding in sampler.calls] == [
        (2, GREEDY),
        (1, DRAWN),
        (1, DRAWN),
    ]
    drawn = [of_prompts[0] for _, of_prompts, _ in sampler.calls]
    assert len({seed for (seed,) in drawn}) == 3


def test_a_stray_tag_at_the_end_is_no_part_of_the_persona() -> None:
    sampler = ScriptedSampler(lambda prompt, seed: Sample("Likes crime.\n</persona>", 4, True))
    got = play(ScriptedChat(steady), windows({"e": ("eval", FULL)}), "mine", by=policy(sampler))
    assert got.personas["persona"].tolist()[1:] == ["Likes crime."] * 4
    assert not kept(got.personas).any()


def test_a_short_history_counts_in_the_rounds_whose_windows_exist() -> None:
    got = play(ScriptedChat(steady), windows({"e": ("eval", [[5.0]] * 3)}), "slide_regen")
    assert got.personas["round"].tolist() == [0, 1, 2]
    assert got.predictions["window"].tolist() == [1, 2]


def test_a_window_without_usable_ratings_teaches_nothing_and_is_not_predicted() -> None:
    got = play(ScriptedChat(steady), windows({"e": ("eval", [[5.0], [5.0], [], [5.0], [5.0]])}), "inc_update")
    row = got.personas.set_index("round").loc[2]
    assert row["note"] == "kept: the window has no usable rating"
    assert (row["persona"], row["attempts"]) == (got.personas.set_index("round").loc[1, "persona"], 0)
    assert got.predictions["round"].tolist() == [0, 2, 3]  # W1, W3, W4


@pytest.mark.parametrize(
    ("unusable", "note"),
    [
        (None, "kept: no_answer"),
        ("I'm sorry, but I can't help with that.", "kept: refusal"),
        ("- rated 5: Title e 2 0", "kept: echo"),
    ],
)
def test_an_unusable_update_by_the_chat_model_keeps_the_old_persona(unusable: str | None, note: str) -> None:
    def answer(prompt: str, attempt: int) -> str | None:
        if "<items>" in prompt:
            return always(3, prompt)
        last = re.findall("Title e (.) 0", prompt)[-1]
        return unusable if last == "2" else f"A persona after {last}."

    chat = ScriptedChat(answer)
    got = play(chat, windows({"e": ("eval", [[5.0]] * 6)}), "inc_update", asks=2)
    personas = got.personas.set_index("round")
    assert personas["persona"].tolist() == [f"A persona after {w}." for w in (0, 1, 1, 3, 4)]
    assert (personas.loc[2, "note"], personas.loc[2, "attempts"]) == (note, 2)
    assert got.predictions["predicted"].tolist() == [3.0] * 5
    assert kept(got.personas).tolist() == [False, False, True, False, False]
    # Round 3 starts from S1, the last persona that could be used.
    (third,) = [prompt for prompt, _ in chat.asked if "Title e 3 0" in prompt and "<items>" not in prompt]
    assert "A persona after 1." in third


@pytest.mark.parametrize("method", list(PROMPT_METHODS))
def test_in_every_method_a_user_with_a_persona_stands_in_every_round(method: str) -> None:
    """Whatever becomes of updates: the predictions of 5 rounds are there, by S0 where nothing else is."""

    def answer(prompt: str, attempt: int) -> str:
        first = "Title e 0" in prompt and "Title e 1" not in prompt
        return always(2, prompt) if "<items>" in prompt else "Someone." if first else "..."

    got = play(ScriptedChat(answer), windows({"e": ("eval", FULL)}), method)
    assert got.personas["persona"].tolist() == ["Someone."] * 5
    assert got.personas["note"].tolist() == [None, *["kept: no_persona"] * 4]
    assert got.predictions["predicted"].tolist() == [2.0] * 10


def test_a_merge_may_repeat_both_personas_that_it_is_shown() -> None:
    short = "At the moment this person looks for short and quiet books about gardens and rivers."

    def answer(prompt: str, attempt: int) -> str:
        if "<items>" in prompt:
            return always(2, prompt)
        if "<short_term_persona>" in prompt:
            return f"Somebody of steady habits. {short}"
        return short if "Title e 0" not in prompt else "Somebody of steady habits."

    got = play(ScriptedChat(answer), windows({"e": ("eval", FULL)}), "hier_merge")
    assert got.personas["persona"].tolist()[1:] == [f"Somebody of steady habits. {short}"] * 4


def test_only_an_update_that_failed_is_counted_as_kept() -> None:
    personas = pd.DataFrame({"domain": "book", "method": "mine", "user_id": ["a", "b", "c", "d"], "round": 1})
    notes = [None, "kept: truncated", "kept: the window has no usable rating", "no_persona"]
    personas["note"] = notes
    errors = personas.drop(columns="note").iloc[[3, 1, 0]]
    assert mark_kept(errors, personas)[["user_id", "kept"]].values.tolist() == [["d", 0], ["b", 1], ["a", 0]]
    personas["note"] = "kept: no readable prediction to refine by"
    assert kept(personas).all()
    assert not kept(personas.assign(note=None)).any()


def test_how_each_rating_was_placed_goes_with_it() -> None:
    def answer(prompt: str, attempt: int) -> str:
        if "<items>" not in prompt:
            return "Someone."
        if "Title e 1 0" in prompt:
            return '{"Title e 1 1": 2, "Titel e 1 0": 4}'
        return "[3, 1]" if "Title e 2 0" in prompt else "no idea"

    got = play(ScriptedChat(answer), windows({"e": ("eval", [[5.0, 5.0]] * 4)}), "slide_regen")
    shown = got.predictions[["round", "place", "predicted", "placed"]]
    assert shown.astype("object").where(shown.notna(), None).values.tolist() == [
        [0, 0, 4, "correction"],
        [0, 1, 2, "name"],
        [1, 0, 3, "position"],
        [1, 1, 1, "position"],
        [2, 0, None, None],
        [2, 1, None, None],
    ]


def test_refinement_keeps_the_persona_where_no_prediction_could_be_read() -> None:
    def answer(prompt: str, attempt: int) -> str:
        return (
            ("no idea" if "Title e 1" in prompt else always(2, prompt)) if "<items>" in prompt else "Someone."
        )

    by = policy(ScriptedSampler(refined))
    got = play(ScriptedChat(answer), windows({"e": ("eval", [[5.0]] * 4)}), "mine", by=by)
    notes = got.personas.set_index("round")["note"]
    assert notes[1] == "kept: no readable prediction to refine by"
    assert notes.drop(1).isna().all()


def test_without_a_first_persona_only_regeneration_can_start() -> None:
    def answer(prompt: str, attempt: int) -> str | None:
        if "<items>" in prompt:
            return always(2, prompt)
        return None if "Title e 0" in prompt and "Title e 1" not in prompt else "Someone."

    frame = windows({"e": ("eval", [[5.0]] * 3)})
    assert play(ScriptedChat(answer), frame, "slide_regen").personas["persona"].isna().tolist() == [
        True,
        False,
        False,
    ]
    incremental = play(ScriptedChat(answer), frame, "inc_update").personas
    assert incremental["persona"].isna().all()
    assert incremental["note"].tolist() == ["no_answer", "no_persona", "no_persona"]


def test_order_of_rows_and_other_users_change_nothing() -> None:
    alone = windows({"e": ("eval", FULL)})
    several = windows({"z": ("eval", FULL), "e": ("eval", FULL), "a": ("train", FULL)}).sample(
        frac=1, random_state=1
    )
    one = play(ScriptedChat(steady), alone, "hier_merge")
    many = play(ScriptedChat(steady), several, "hier_merge")
    pd.testing.assert_frame_equal(
        one.predictions, many.predictions.query("user_id == 'e'").reset_index(drop=True)
    )


def test_histories_are_in_time_order() -> None:
    shuffled = windows({"b": ("eval", [[1.0, 2.0, 3.0]]), "a": ("eval", [[4.0]])}).sample(
        frac=1, random_state=3
    )
    got = histories(shuffled)
    assert list(got) == ["a", "b"]
    assert [item.rating for item in got["b"][0]] == [1.0, 2.0, 3.0]
