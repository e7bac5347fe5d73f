"""Texts that a policy has written are not written again."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from deeper_assets.engines.sampling import remembered
from deeper_assets.engines.sampling.remembered import RememberedSampler
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.fakes import ScriptedSampler

DRAWN = Decoding(max_new_tokens=9)
GREEDY = replace(DRAWN, temperature=0.0)


def write(prompt: str, seed: int) -> Sample:
    return Sample(f"{prompt} – {seed} \ud83d", len(prompt), seed % 2 == 0)


def policy(folder: Path, **about: str) -> tuple[RememberedSampler, ScriptedSampler]:
    writer = ScriptedSampler(write)
    return RememberedSampler(writer, folder / "texts", about), writer


def asked(writer: ScriptedSampler) -> list[list[str]]:
    return [prompts for prompts, _, _ in writer.calls]


def test_only_new_texts_are_written_and_all_are_the_same(tmp_path: Path) -> None:
    first, writer = policy(tmp_path)
    before = first.sample(["a", "b"], [[1, 2], [3, 4]], DRAWN)
    assert before == [[write("a", 1), write("a", 2)], [write("b", 3), write("b", 4)]]
    again, other = policy(tmp_path)
    both = again.sample(["b", "c", "a"], [[3, 4], [5], [1, 2]], DRAWN)
    assert both == [before[1], [write("c", 5)], before[0]]
    assert (asked(writer), asked(other)) == ([["a", "b"]], [["c"]])
    assert again.name == "scripted-policy-1"


@pytest.mark.parametrize("change", ["policy", "about", "decoding", "seed", "more"])
def test_what_decides_a_text_is_not_mixed_up(tmp_path: Path, change: str) -> None:
    policy(tmp_path, engine="x")[0].sample(["a"], [[1]], DRAWN)
    other, writer = policy(tmp_path, engine="y" if change == "about" else "x")
    if change == "policy":
        writer.name = "another"
    seeds = {"seed": [[2]], "more": [[1, 2]]}.get(change, [[1]])
    decoding = replace(DRAWN, top_p=0.5) if change == "decoding" else DRAWN
    other.sample(["a"], seeds, decoding)
    assert asked(writer) == [["a"]]


def test_greedy_texts_have_no_seed(tmp_path: Path) -> None:
    policy(tmp_path)[0].sample(["a"], [[1]], GREEDY)
    again, writer = policy(tmp_path)
    assert again.sample(["a"], [[2]], GREEDY) == [[write("a", 1)]]
    assert asked(writer) == []


def test_new_texts_are_written_in_one_call(tmp_path: Path) -> None:
    sampler, writer = policy(tmp_path)
    sampler.sample([str(n) for n in range(1000)], [[n] for n in range(1000)], DRAWN)
    assert [len(prompts) for prompts in asked(writer)] == [1000]


def test_an_error_that_passes_costs_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy(tmp_path)[0].sample(["a"], [[1]], DRAWN)
    (tmp_path / "texts" / "cache.db").rename(tmp_path / "texts" / "away")
    (tmp_path / "texts" / "cache.db").mkdir()  # SQLite is unable to open it
    again, writer = policy(tmp_path)
    assert again.sample(["a"], [[1]], DRAWN) == [[write("a", 1)]]
    assert asked(writer) == [["a"]]
    assert "unable to open" in caplog.text
    (tmp_path / "texts" / "cache.db").rmdir()
    (tmp_path / "texts" / "away").rename(tmp_path / "texts" / "cache.db")
    third, writer = policy(tmp_path)
    third.sample(["a"], [[1]], DRAWN)
    assert asked(writer) == []


def test_a_damaged_file_is_begun_anew_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy(tmp_path)[0].sample(["a"], [[1]], DRAWN)
    (tmp_path / "texts" / "cache.db").write_bytes(b"no database" * 999)
    again, writer = policy(tmp_path)
    assert again.sample(["a"], [[1]], DRAWN) == [[write("a", 1)]]
    assert asked(writer) == [["a"]]
    assert "cannot be read" in caplog.text
    third, writer = policy(tmp_path)
    third.sample(["a"], [[1]], DRAWN)
    assert asked(writer) == []


def test_texts_are_bounded_and_the_least_used_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "LARGEST", 200_000)
    sampler = RememberedSampler(
        ScriptedSampler(lambda prompt, seed: Sample(f"{hash((prompt, seed))}" * 50, 1, True)),
        tmp_path / "texts",
        {},
    )
    for start in range(0, 2000, 100):
        sampler.sample([str(n) for n in range(start, start + 100)], [[n] for n in range(100)], DRAWN)
    with sqlite3.connect(tmp_path / "texts" / "cache.db") as cache:
        [(kept,)] = cache.execute("SELECT count(*) FROM Cache").fetchall()
    assert 100 < kept < 2000
    assert sum(path.stat().st_size for path in (tmp_path / "texts").iterdir()) < 1_000_000
