"""The embedder behind an endpoint, against a real server with real faults."""

import json
import math
import multiprocessing
import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.served import OPENAI
from deeper_assets.engines.embedding.endpoint import AT_ONCE, EmbeddingEndpoint
from deeper_assets.engines.embedding.endpoint_vectors import EndpointVectors
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.chat_server.embeddings import DIMENSIONS, vector_of
from deeper_assets_tests.chat_server.meddling import meddle
from deeper_assets_tests.chat_server.process import ChatServer, chat_server

PRICE = 20.0
SECRET = "sk-planted-5ecre7"


def texts(count: int, mark: str = "far-off space adventures") -> list[str]:
    return [f"{mark}, such as {number}" for number in range(count)]


def vectors_at(url: str, folder: Path, *, cap_usd: float | None = None, **values: Any) -> EndpointVectors:
    given = {"model": "local", "base_url": url, "price": PRICE, "timeout": 5.0, "concurrency": 4, **values}
    return EndpointVectors(EmbeddingEndpoint(**given), Journal(folder / "journal.sqlite", cap_usd))


def expected(asked: list[str], known: list[str]) -> Any:
    """By hand: each of length 1, less the mean of the known, of length 1 again."""

    def unit(vector: Any) -> Any:
        return np.array(vector) / np.linalg.norm(vector)

    mean = np.mean([unit(np.float32(vector_of(text))) for text in known], axis=0)
    return np.array([unit(unit(np.float32(vector_of(text))) - mean) for text in asked])


def test_vectors_are_the_servers_from_their_mean_and_each_text_is_asked_once(
    server: ChatServer, tmp_path: Path
) -> None:
    embedder = vectors_at(server.url, tmp_path)
    asked, known = [*texts(70), *texts(3), " "], texts(40)
    vectors = embedder.embed(asked, known)
    np.testing.assert_allclose(vectors[:-1], expected(asked[:-1], known), atol=1e-6)
    assert vectors.shape == (74, DIMENSIONS)
    assert not vectors[-1].any(), "a blank text says nothing"
    assert server.stats()["requests"] == math.ceil(70 / AT_ONCE)
    again = embedder.embed([*texts(70), "one more"], known)
    np.testing.assert_array_equal(again[:70], vectors[:70])
    assert server.stats()["requests"] == math.ceil(70 / AT_ONCE) + 1, "the journal had all but one"
    assert embedder.embed([], []).shape[0] == 0
    assert embedder.embed([""], [""]).tolist() == [[0.0]]


def test_cost_is_tokens_times_price_and_texts_share_it(server: ChatServer, tmp_path: Path) -> None:
    embedder = vectors_at(server.url, tmp_path)
    embedder.embed(texts(50), [])
    stats = server.stats()
    [row] = embedder.journal.usage()
    assert (row.requests, row.input_tokens, row.output_tokens) == (50, stats["prompt_tokens"], 0)
    assert row.cost_usd == pytest.approx(row.input_tokens * PRICE / 1e6)
    embedder.embed(texts(50), [])
    [row] = embedder.journal.usage()
    assert (row.requests, row.hits) == (50, 50)
    assert row.saved_usd == pytest.approx(row.cost_usd)
    assert {line["request"]["input"][0] for line in embedder.journal.export()} == set(texts(50))


@pytest.mark.slow
def test_whatever_fails_for_a_moment_is_answered_in_the_end_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    often = dict.fromkeys(["rate_limited", "error_at_once", "dropped", "misshapen"], 0.08)
    seldom = dict.fromkeys(["error_late", "bomb", "miscounted", "redirected"], 0.03)
    faults = ",".join(f"{kind}={share}" for kind, share in {**often, **seldom, "hanging": 0.01}.items())
    with chat_server("--faults", faults, "--latency", 0.02) as server:
        embedder = vectors_at(server.url, tmp_path, timeout=2.0, tries=20)
        asked = texts(30 * AT_ONCE)
        np.testing.assert_allclose(embedder.embed(asked, asked[:9]), expected(asked, asked[:9]), atol=1e-6)
        stats = server.stats()
        assert set(often) <= set(stats["faults"])
        assert (stats["paid_again"], stats["followed"]) == (0, 0)
        [row] = embedder.journal.usage()
        assert row.requests == len(asked)
        assert embedder.journal.committed_usd()[1] == 0


def change(answer: dict[str, Any], kind: str) -> None:
    """Spoils an answer for three texts or more."""
    data = answer["data"]
    match kind:
        case "too few":
            del data[1]
        case "too many":
            data.append(data[0] | {"index": len(data)})
        case "the same index twice":
            data[0]["index"] = 1
        case "an index that was not asked":
            data[0]["index"] = 99
        case "not a number":
            data[1]["embedding"][2] = float("nan")
        case "without an end":
            data[1]["embedding"][2] = float("inf")
        case "absent":
            data[1]["embedding"][2] = None
        case "a word":
            data[1]["embedding"][2] = "0.5"
        case "no vector":
            data[1]["embedding"] = None
        case "an empty vector":
            data[1]["embedding"] = []
        case "another dimension":
            data[1]["embedding"].append(0.5)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("too few", "2 vectors, numbered 0, 2, for 3 texts"),
        ("too many", "4 vectors, numbered 0, 1, 2, 3, for 3 texts"),
        ("the same index twice", "3 vectors, numbered 1, 2, for 3 texts"),
        ("an index that was not asked", "3 vectors, numbered 1, 2, 99, for 3 texts"),
        ("another dimension", "vectors of 8, 9 dimensions"),
        *(
            (kind, "an answer of another shape")
            for kind in ("not a number", "without an end", "absent", "a word", "no vector", "an empty vector")
        ),
    ],
)
def test_an_answer_that_is_not_a_vector_a_text_is_asked_again_and_then_an_error(
    kind: str, told: str, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = 2

    async def spoil(request: Any, send: Any) -> Any:
        nonlocal spoiled
        answer = await send()
        content = json.loads(await answer.aread())
        if spoiled:
            spoiled -= 1
            change(content, kind)
        return type(answer)(200, content=json.dumps(content).encode(), request=request)

    meddle(monkeypatch, spoil)
    embedder = vectors_at(server.url, tmp_path, tries=2)
    with pytest.raises(DeeperError, match=f"local at .*{told}.*after 2 tries"):
        embedder.embed(texts(3), [])
    assert embedder.journal.size()[0] == 0, "nothing of it is kept"
    most = sum(embedder.endpoint.most_usd(text) or 0 for text in texts(3))
    assert embedder.journal.committed_usd() == (pytest.approx(2 * most), 0), "it may have been charged"
    spoiled = 1
    again = embedder.embed(texts(3), texts(2))
    np.testing.assert_allclose(again, expected(texts(3), texts(2)), atol=1e-6)


def test_vectors_in_another_order_go_to_their_texts(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def turn_round(request: Any, send: Any) -> Any:
        answer = await send()
        content = json.loads(await answer.aread())
        content["data"].reverse()
        return type(answer)(200, json=content, request=request)

    meddle(monkeypatch, turn_round)
    vectors = vectors_at(server.url, tmp_path).embed(texts(5), texts(2))
    np.testing.assert_allclose(vectors, expected(texts(5), texts(2)), atol=1e-6)


def test_a_server_that_counts_no_tokens_is_taken_to_charge_the_most(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count_nothing(request: Any, send: Any) -> Any:
        answer = await send()
        content = json.loads(await answer.aread())
        del content["usage"]
        return type(answer)(200, json=content, request=request)

    meddle(monkeypatch, count_nothing)
    embedder = vectors_at(server.url, tmp_path)
    embedder.embed(texts(3), [])
    [row] = embedder.journal.usage()
    assert row.cost_usd == pytest.approx(sum(embedder.endpoint.most_usd(text) or 0 for text in texts(3)))


def test_another_model_under_the_same_name_is_an_error_that_says_what_to_do(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = vectors_at(server.url, tmp_path)
    embedder.embed(texts(3), [])

    async def lengthen(request: Any, send: Any) -> Any:
        answer = await send()
        content = json.loads(await answer.aread())
        for part in content["data"]:
            part["embedding"].append(1.0)
        return type(answer)(200, json=content, request=request)

    meddle(monkeypatch, lengthen)
    with pytest.raises(DeeperError, match=r"have 8 and 9 dimensions: .*deeper journal prune --model local"):
        embedder.embed(texts(4), [])
    assert embedder.journal.prune(None, "local") == 4
    assert embedder.embed(texts(4), []).shape == (4, 9)


def test_errors_that_last_stop_everything_at_once(server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(DeeperError, match=r"unknown-model at .*: status 404"):
        vectors_at(server.url, tmp_path, model="unknown-model", concurrency=2).embed(texts(50 * AT_ONCE), [])
    assert server.stats()["requests"] <= 2


def test_a_page_for_people_is_an_error_that_names_the_setting(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def welcome(request: Any, send: Any) -> Any:
        return type(await send())(200, html="<!doctype html><p>Welcome</p>", request=request)

    meddle(monkeypatch, welcome)
    with pytest.raises(DeeperError, match=r"see that embedder\.base_url is an API's address"):
        vectors_at(server.url, tmp_path).embed(texts(1), [])


def test_a_wrong_key_is_an_error_that_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server("--key-env", "SERVERS_KEY", SERVERS_KEY="right") as server:
        monkeypatch.setenv("CLIENTS_KEY", SECRET)
        embedder = vectors_at(server.url, tmp_path, key_env="CLIENTS_KEY")
        with pytest.raises(DeeperError, match=r"status 401: .* key provided: \$CLIENTS_KEY") as error:
            embedder.embed(texts(1), [])
        assert SECRET not in "".join(traceback.format_exception(error.value))
        monkeypatch.setenv("CLIENTS_KEY", "right")
        assert embedder.embed(texts(1), []).any()


def test_openai_without_a_key_is_an_error_that_names_variable_and_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    embedder = EndpointVectors(EmbeddingEndpoint(), Journal(tmp_path / "journal.sqlite"))
    assert embedder.endpoint.base_url == OPENAI
    assert embedder.name == "text-embedding-3-small, centred"
    with pytest.raises(DeeperError, match=r"variable OPENAI_API_KEY, or embedder\.base_url"):
        embedder.embed(texts(1), [])


def test_a_cap_needs_a_price_and_is_never_broken(server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(DeeperError, match=r"what local costs is not known: set embedder\.price"):
        vectors_at(server.url, tmp_path, price=None, cap_usd=1.0).embed(texts(1), [])
    embedder = vectors_at(server.url, tmp_path, cap_usd=0.05)
    with pytest.raises(DeeperError, match=r"max_cost_usd 0\.05 is reached"):
        embedder.embed(texts(1000), [])
    spent, on_its_way = embedder.journal.committed_usd()
    kept = embedder.journal.size()[0]
    assert (0.04 < spent <= 0.05, on_its_way) == (True, 0)
    assert 0 < kept < 1000
    richer = vectors_at(server.url, tmp_path, cap_usd=5.0)
    assert richer.embed(texts(1000), []).shape == (1000, DIMENSIONS)
    [row] = richer.journal.usage()
    assert row.requests == 1000, "what was paid for was not asked again"


def embed_in_process(url: str, folder: Path, asked: list[str]) -> None:
    vectors_at(url, folder).embed(asked, [])


def in_process(server: ChatServer, folder: Path, asked: list[str]) -> Any:
    process = multiprocessing.get_context("spawn").Process(
        target=embed_in_process, args=(server.url, folder, asked)
    )
    process.start()
    return process


@pytest.mark.slow
def test_a_killed_process_paid_for_what_it_has_got(tmp_path: Path) -> None:
    with chat_server("--latency", 0.2) as server:
        asked = texts(60 * AT_ONCE)
        journal = Journal(tmp_path / "journal.sqlite")
        process = in_process(server, tmp_path, asked)
        deadline = time.monotonic() + 60
        while journal.size()[0] < 8 * AT_ONCE:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kept = journal.size()[0]
        assert kept % AT_ONCE == 0, "of a request all is kept, or nothing"
        server.reset()
        vectors = vectors_at(server.url, tmp_path).embed(asked, asked[:9])
        np.testing.assert_allclose(vectors, expected(asked, asked[:9]), atol=1e-6)
        assert server.stats()["requests"] == (len(asked) - kept) // AT_ONCE
        assert journal.committed_usd()[1] == 0


@pytest.mark.slow
def test_processes_that_want_the_same_texts_pay_once(tmp_path: Path) -> None:
    with chat_server("--latency", 0.3) as server:
        processes = [
            in_process(server, tmp_path, asked)
            for asked in (texts(200), texts(200)[::-1], texts(200)[50:150] + texts(50, "history"))
        ]
        for process in processes:
            process.join(100)
            assert process.exitcode == 0
        [row] = Journal(tmp_path / "journal.sqlite").usage()
        assert row.requests == 250
        assert server.stats()["prompt_tokens"] == row.input_tokens, "nobody has paid for more"
