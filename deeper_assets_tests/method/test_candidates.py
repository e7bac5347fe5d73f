"""Candidates: what is kept of a policy's samples, what is wrong with them, and what they predict."""

import json
import re
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.engines.offline.language import HABITS, VERDICTS, Reading, render
from deeper_assets.engines.offline.themes import themes
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import (
    REASONS,
    CandidateDraw,
    predict_candidates,
    sample_candidates,
    seeds,
    states_score,
)
from deeper_assets.method.domains import PAPER_DOMAINS, find_domain
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.fakes import ScriptedChat, ScriptedSampler
from deeper_assets_tests.growth import LINEAR, growth
from deeper_assets_tests.method.test_rounds import always, windows

BOOK = find_domain("book")
PROMPTS = Prompts()
OLD = "This reader enjoys crime, and above all a clever plot."
WINDOW = [RatedItem("Title t 1 0", 5.0), RatedItem("Title t 1 1", 4.0)]
REFINEMENT = PROMPTS.refinement(BOOK, OLD, WINDOW, [3, 3.5])
INC_UPDATE = PROMPTS.inc_update(BOOK, OLD, WINDOW)
FRAME = windows({"t": ("train", [[5.0, 4.0]] * 4), "s": ("train", [[5.0, 4.0]] * 4)})


def contexts(*rows: tuple[str, int, str | None], key: str = "template") -> pd.DataFrame:
    """Contexts of (user, round, prompt)."""
    frame = pd.DataFrame(rows, columns=["user_id", "round", "prompt"])
    return frame.assign(domain="book", persona=OLD, note=None, model="scripted-1", **{key: "k"})


def sample(
    texts: list[str | Sample],
    given: pd.DataFrame | None = None,
    forbid_leaks: bool = False,
) -> list[dict[str, Any]]:
    """What becomes of the texts, each one sample, for every context."""
    waiting: dict[str, list[Sample]] = {}

    def write(prompt: str, seed: int) -> Sample:
        # Sampled in order: the next text of this prompt.
        left = waiting.setdefault(
            prompt,
            [text if isinstance(text, Sample) else Sample(text, len(text.split()), True) for text in texts],
        )
        return left.pop(0)

    frame = contexts(("t", 1, REFINEMENT)) if given is None else given
    sampler = ScriptedSampler(write)
    got = sample_candidates(
        frame, sampler, CandidateDraw(Decoding(), len(texts), 7, forbid_leaks), FRAME, BOOK
    )
    assert len(sampler.calls) == 1
    assert not got.duplicated(["user_id", "round", "candidate"]).any()
    assert set(got["unusable"].dropna()) <= set(REASONS)
    return got.to_dict("records")


def fault(text: str, prompt: str = REFINEMENT, persona: str = OLD) -> str | None:
    (row,) = sample([text], contexts(("t", 1, prompt)).assign(persona=persona))
    return row["unusable"]


def test_seeds_come_from_identity_alone() -> None:
    # The same on every machine and in every release: sampled texts stand and fall with them.
    assert seeds("ann", 1, 2, 7) == [2172256981364720605, 1195130401166639044]
    assert seeds("ann", 1, 5, 7)[:2] == seeds("ann", 1, 2, 7)
    everyone = [s for u in ("ann", "bob") for r in (1, 2) for x in (7, 8) for s in seeds(u, r, 15, x)]
    assert len(set(everyone)) == 2 * 2 * 2 * 15
    assert all(0 <= s < 2**63 for s in everyone)


def test_one_call_samples_every_context_that_has_a_prompt() -> None:
    sampler = ScriptedSampler(lambda prompt, seed: Sample(f"Likes {seed}.", 2, True))
    given = contexts(("t", 2, "two"), ("t", 1, "one"), ("s", 1, None), ("s", 2, "three"))
    got = sample_candidates(given, sampler, CandidateDraw(Decoding(), 2, 7), FRAME, BOOK)
    ((prompts, asked, decoding),) = sampler.calls
    assert prompts == ["three", "one", "two"]
    assert asked == [seeds("s", 2, 2, 7), seeds("t", 1, 2, 7), seeds("t", 2, 2, 7)]
    assert decoding == Decoding(1.0, 0.4, 1.1)
    assert list(got.columns) == list(TABLES["candidates_1"].column_names)
    assert got[["user_id", "round", "candidate"]].values.tolist() == [
        [user, round_, number] for user, round_ in (("s", 2), ("t", 1), ("t", 2)) for number in (0, 1)
    ]
    assert set(got["model"]) == {"scripted-policy-1"}


def test_templates_of_one_domain_are_sampled_and_asked_about_apart() -> None:
    """A user has a context of each template; what is drawn for one is not taken for the other's."""
    first, second = (contexts(("t", 1, prompt)) for prompt in ("p", "q"))
    both = pd.concat([first.assign(template="refinement"), second.assign(template="inc_update")])
    sampler = ScriptedSampler(lambda prompt, seed: Sample(f"Likes what {prompt} says.", 4, True))
    got = sample_candidates(both, sampler, CandidateDraw(Decoding(), 3, 7), FRAME, BOOK)
    assert got[["template", "persona", "copies"]].values.tolist() == [
        ["inc_update", "Likes what q says.", 3],
        ["refinement", "Likes what p says.", 3],
    ]
    chat = ScriptedChat(lambda prompt, _: always(3 if "what p says" in prompt else 1, prompt))
    predicted = predict_candidates(got, FRAME, BOOK, ChatSetup(chat, PROMPTS, 1))
    assert predicted.groupby("template")["predicted"].unique().map(list).to_dict() == {
        "inc_update": [1.0],
        "refinement": [3.0],
    }


def test_iteration_2_is_partitioned_by_recipe() -> None:
    sampler = ScriptedSampler(lambda prompt, seed: Sample("Likes it.", 2, True))
    draw = CandidateDraw(Decoding(), 1, 7)
    got = sample_candidates(contexts(("t", 1, "p"), key="recipe"), sampler, draw, FRAME, BOOK)
    assert list(got.columns) == list(TABLES["candidates_2"].column_names)


def test_without_any_prompt_there_are_no_candidates() -> None:
    sampler = ScriptedSampler(lambda prompt, seed: Sample("Likes it.", 2, True))
    got = sample_candidates(contexts(("t", 1, None)), sampler, CandidateDraw(Decoding(), 15, 7), FRAME, BOOK)
    assert got.empty
    assert list(got.columns) == list(TABLES["candidates_1"].column_names)
    assert predict_candidates(got, FRAME, BOOK, ChatSetup(ScriptedChat(lambda *_: None), PROMPTS, 1)).empty


def test_identical_texts_are_one_candidate() -> None:
    got = sample(["Likes A.", "Likes B.", "Persona: Likes A.", "Likes A.", "Likes C."])
    assert [(row["candidate"], row["persona"], row["copies"], row["tokens"]) for row in got] == [
        (0, "Likes A.", 3, 2),  # wrapping makes no difference
        (1, "Likes B.", 1, 2),
        (4, "Likes C.", 1, 2),
    ]


def test_a_text_cut_short_is_another_candidate_than_the_same_text_finished() -> None:
    got = sample(["Likes A.", Sample("Likes A.", 2, False)])
    assert [(row["copies"], row["unusable"]) for row in got] == [(1, None), (1, "truncated")]


@pytest.mark.parametrize("text", ["", " \n", "...", "``` ```", "I'm sorry, but I can't help with that."])
def test_what_holds_no_persona_is_empty(text: str) -> None:
    (row,) = sample([text])
    assert row["unusable"] == "empty"
    assert isinstance(row["persona"], str)


def test_a_sampler_that_gives_too_few_samples_is_noticed() -> None:
    class Short(ScriptedSampler):
        def sample(self, prompts, seeds, decoding):
            return [[Sample("x", 1, True)] for _ in prompts]

    short = Short(lambda *_: Sample("x", 1, True))
    with pytest.raises(RuntimeError, match="1 samples of a prompt, not 15"):
        sample_candidates(contexts(("t", 1, "p")), short, CandidateDraw(Decoding(), 15, 7), FRAME, BOOK)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (REFINEMENT, REFINEMENT),
        (INC_UPDATE, INC_UPDATE),
        ("Likes crime.\n<comparison>\nand more", REFINEMENT),
        ("Likes crime. </ratings>", INC_UPDATE),
        ("Likes crime. </persona> Or does not.", REFINEMENT),
        ("Likes crime. - predicted 3.5, actual 4: Title t 1 1", REFINEMENT),
        ("Likes crime. RATED 5 — title T 1 0!", INC_UPDATE),
        ("Title t 1 0: 4, Actual 5", REFINEMENT),
        ("Do not name any item and do not state any rating.", REFINEMENT),
        (
            "Crime. Bring what the latest ratings show into the description, and do not name any item.",
            INC_UPDATE,
        ),
        (
            f"<persona>\n{OLD}\n</persona>\n\nRatings predicted from this description and the person's",
            REFINEMENT,
        ),
    ],
)
def test_repeating_the_prompt_is_an_echo(text: str, prompt: str) -> None:
    assert fault(text, prompt) == "echo"


@pytest.mark.parametrize("prompt", [REFINEMENT, INC_UPDATE])
@pytest.mark.parametrize(
    "text",
    [
        OLD,  # it leaves the persona alone
        f"{OLD} Nothing else matters.",
        f"<persona>\n{OLD}\n</persona>",  # wrapping, as any persona may have it
        "Likes crime. </persona>",  # half of it
        "The person's tastes, values and way of judging have not changed.",
        "This reader likes Title t 1 0.",  # a leak, measured as such
        "Bring what the latest is this reader's way.",
    ],
)
def test_what_is_no_echo(text: str, prompt: str) -> None:
    assert fault(text, prompt) is None


@given(st.text(max_size=80), st.sampled_from(["", REFINEMENT, INC_UPDATE, "<comparison>\n", "</ratings>"]))
def test_copying_the_old_persona_is_never_an_echo(text: str, odd: str) -> None:
    persona = text + odd
    for prompt in (
        PROMPTS.refinement(BOOK, persona, WINDOW, [3, 3]),
        PROMPTS.inc_update(BOOK, persona, WINDOW),
    ):
        for copied in (persona, " ".join(persona.split())):
            assert fault(copied, prompt, persona) in {None, "empty"}


def test_no_persona_of_the_offline_language_is_an_echo_or_a_leak() -> None:
    named = list(themes())
    readings = [
        Reading({named[i - place]: degree for place, degree in enumerate(VERDICTS)}, habit)
        for i, habit in enumerate([*(h for of in HABITS.values() for h in of), None])
    ]
    for domain in PAPER_DOMAINS:
        for seed, reading in enumerate(readings):
            text = render(reading, "reader", seed)
            assert not states_score(text), text
            for prompt in (
                PROMPTS.refinement(domain, OLD, WINDOW, [3, 3]),
                PROMPTS.inc_update(domain, OLD, WINDOW),
            ):
                assert fault(text, prompt) is None


def test_leaks_are_measured_always_and_forbidden_on_demand() -> None:
    texts = ["Likes Title t 1 0 a lot.", "Gives Title t 1 1 five stars.", "Gives 4 stars.", "Likes crime."]
    allowed = sample(texts)
    assert [(row["names_item"], row["states_score"]) for row in allowed] == [(1, 0), (1, 1), (0, 1), (0, 0)]
    assert [row["unusable"] for row in allowed] == [None] * 4
    forbidden = sample(texts, forbid_leaks=True)
    assert [row["unusable"] for row in forbidden] == ["names_item", "names_item", "states_score", None]


def test_items_of_another_window_are_no_leak() -> None:
    assert sample(["Likes Title t 2 0."])[0]["names_item"] == 0


@pytest.mark.parametrize(
    "hostile", ["rated ", "1 to ", "4.", "9", "gives a ", "5 out of ", "- ", "stars ", "a b "]
)
def test_hostile_texts_take_no_more_than_their_length(hostile: str) -> None:
    assert growth(fault, lambda length: (hostile * length)[:length], 5_000) < LINEAR


def usable(*rows: tuple[str, int, int, str, str | None]) -> pd.DataFrame:
    """Candidates of (user, round, candidate, persona, unusable)."""
    frame = pd.DataFrame(rows, columns=["user_id", "round", "candidate", "persona", "unusable"])
    return frame.assign(domain="book", template="refinement")


def test_usable_candidates_predict_three_windows_and_are_asked_once() -> None:
    chat = ScriptedChat(lambda prompt, attempt: always(4, prompt))
    rows = usable(
        ("t", 2, 0, "Likes A.", None),  # the same persona as in round 1: W1 and W2 are asked once
        ("t", 1, 3, "Likes A.", None),
        ("t", 1, 5, "Likes B.", "echo"),
        ("s", 1, 0, "Likes A.", None),
    )
    got = predict_candidates(rows, FRAME, BOOK, ChatSetup(chat, PROMPTS, 1))
    assert list(got.columns) == list(TABLES["candidate_predictions_1"].column_names)
    assert got.groupby(["user_id", "round", "candidate"])["window"].unique().map(list).to_dict() == {
        ("s", 1, 0): [0, 1, 2],
        ("t", 1, 3): [0, 1, 2],
        ("t", 2, 0): [1, 2, 3],
    }
    assert len(chat.asked) == 3 + 4
    assert len(set(chat.asked)) == len(chat.asked)
    assert got["place"].tolist() == [0, 1] * 9
    assert set(got["predicted"]) == {4.0}
    assert set(got["attempts"]) == {1}


def test_each_prediction_goes_to_its_own_place() -> None:
    def answer(prompt: str, attempt: int) -> str:
        # "Title t 1 0" by "Likes 2." -> 1 + 0.1 x window + place, plus the persona's number
        number = int(re.findall(r"Likes (\d)", prompt)[0])
        titles = re.findall(r"- (Title \w (\d) (\d))", prompt)
        return json.dumps([[title, number + int(w) / 10 + int(place)] for title, w, place in titles])

    rows = usable(("t", 1, 0, "Likes 1.", None), ("t", 1, 1, "Likes 2.", None))
    frame = windows({"t": ("train", [[5.0], [4.0, 4.0]])})
    got = predict_candidates(rows, frame, BOOK, ChatSetup(ScriptedChat(answer), PROMPTS, 1))
    assert set(got["placed"]) == {"name"}
    shown = got[["candidate", "window", "place", "predicted"]].values.tolist()
    assert shown == [
        [0, 0, 0, 1.0],
        [0, 1, 0, 1.1],
        [0, 1, 1, 2.1],
        [1, 0, 0, 2.0],
        [1, 1, 0, 2.1],
        [1, 1, 1, 3.1],
    ]


def test_an_unreadable_prediction_is_unknown_and_says_why() -> None:
    chat = ScriptedChat(lambda prompt, attempt: "x" if "Title t 1" in prompt else always(4, prompt))
    got = predict_candidates(usable(("t", 1, 0, "Likes A.", None)), FRAME, BOOK, ChatSetup(chat, PROMPTS, 2))
    unknown = got["predicted"].isna()
    assert got.loc[unknown, ["window", "note", "attempts"]].values.tolist() == [[1, "no_json", 2]] * 2
    assert got.loc[~unknown, "note"].isna().all()
    assert (got["placed"].isna() == unknown).all()
