"""The client of OpenAI-compatible endpoints, against a real server with real faults."""

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from deeper_assets.engines.chat import failures
from deeper_assets.engines.chat.batches import LABEL
from deeper_assets.engines.chat.endpoint import Endpoint, Prices
from deeper_assets.engines.chat.entries import Key
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.openai_chat import OpenAIChat
from deeper_assets.engines.chat.pacing import AdaptiveLimit, seconds_until_next
from deeper_assets.engines.chat.served import OPENAI
from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.method.asking import ChatSetup, ask_predictions, ratings_schema
from deeper_assets.method.domains import FIVE_STARS, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets_tests.chat_server.meddling import meddle
from deeper_assets_tests.chat_server.process import ChatServer, chat_server

RECIPE = find_domain("recipe")
PROMPTS = Prompts(80)
TITLES = [f"Beef stew {place}" for place in range(10)]
SCHEMA = ratings_schema(FIVE_STARS)
PRICES = Prices(1.0, 10.0)
SECRET = "sk-planted-5ecre7"


def questions(count: int, mark: str = "") -> list[str]:
    return [PROMPTS.prediction(RECIPE, f"Loves beef{mark}, number {n}.", TITLES) for n in range(count)]


def chat_to(url: str, folder: Path, *, cap_usd: float | None = None, **values: Any) -> OpenAIChat:
    endpoint = Endpoint(**{"model": "local", "base_url": url, "prices": PRICES, **values})
    return OpenAIChat(endpoint, Journal(folder / "journal.sqlite", cap_usd))


def chat_at(server: ChatServer, folder: Path, **values: Any) -> OpenAIChat:
    return chat_to(server.url, folder, **{"timeout": 5.0, "concurrency": 16, **values})


def at_most(chat: OpenAIChat, prompt: str, schema: dict[str, Any] | None = None) -> float:
    most = chat.endpoint.most_usd(chat.endpoint.body(prompt, schema))
    assert most is not None
    return most


def ask_in_process(url: str, folder: Path, prompts: list[str], values: dict[str, Any]) -> None:
    chat_to(url, folder, **values).answer(prompts, schema=SCHEMA)


def in_process(server: ChatServer, folder: Path, prompts: list[str], **values: Any) -> Any:
    process = multiprocessing.get_context("spawn").Process(
        target=ask_in_process, args=(server.url, folder, prompts, values)
    )
    process.start()
    return process


def die_in_process(target: Callable[..., None], *arguments: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def wait_until(what: Any) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------- answers


def test_answers_are_the_models_and_equal_prompts_are_asked_once(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_at(server, tmp_path, structured=False)
    prompts = [PROMPTS.slide_regen(RECIPE, [RatedItem("Beef stew", 5), RatedItem("Fish soup", 1)])]
    prompts = [*prompts, *questions(3), *prompts]
    assert chat.answer(prompts) == OfflineChatModel().answer(prompts)
    assert server.stats()["requests"] == 4
    assert chat.answer(prompts[:2]) == OfflineChatModel().answer(prompts[:2])
    assert server.stats()["requests"] == 4, "the journal had them"
    chat.answer(prompts[:1], attempt=1)
    assert server.stats()["requests"] == 5, "another attempt is another request"


def test_predictions_come_by_schema_and_are_read(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_at(server, tmp_path)
    window = [RatedItem(title, 4) for title in TITLES]
    asked = [("Loves beef.", window), (None, window)]
    there = ask_predictions(ChatSetup(chat, PROMPTS, 1), RECIPE, asked)
    assert there == ask_predictions(ChatSetup(OfflineChatModel(), PROMPTS, 1), RECIPE, asked)
    [line] = chat.journal.export()
    assert json.loads(line["text"]).keys() == {"ratings"}
    form = line["request"]["response_format"]["json_schema"]
    rating = form["schema"]["properties"]["ratings"]["items"]["properties"]["rating"]
    assert (form["strict"], rating["enum"]) == (True, [1, 2, 3, 4, 5])


def test_a_server_without_schemas_is_asked_in_words(tmp_path: Path) -> None:
    with chat_server("--no-schemas") as server:
        chat = chat_at(server, tmp_path, concurrency=1)
        assert chat.answer(questions(5), schema=SCHEMA) == OfflineChatModel().answer(questions(5))
        statuses = server.stats()["statuses"]
        assert (statuses["200"], statuses["400"]) == (5, 1), "found out once, and remembered"


def test_cost_is_tokens_times_prices(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_at(server, tmp_path)
    chat.answer(questions(7), schema=SCHEMA)
    stats = server.stats()
    [row] = chat.journal.usage()
    assert (row.requests, row.input_tokens, row.output_tokens) == (
        7,
        stats["prompt_tokens"],
        stats["completion_tokens"],
    )
    assert row.cost_usd == pytest.approx((row.input_tokens * 1 + row.output_tokens * 10) / 1e6)
    assert Prices(2, 3, cached_input=1).cost(1_000_000, 400_000, 100_000) == pytest.approx(1.2 + 0.4 + 0.3)


# ----------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("rejected", "content_filter"),
        ("refused", "refusal"),
        ("filtered", "content_filter"),
        ("cut", "cut_off"),
    ],
)
def test_what_cannot_be_used_has_a_reason_and_is_not_asked_again(
    kind: str, reason: str, tmp_path: Path
) -> None:
    with chat_server("--faults", f"{kind}=1") as server:
        chat = chat_at(server, tmp_path)
        answers = chat.answer(questions(3), schema=SCHEMA)
        assert [(answer.text, answer.reason) for answer in answers] == [(None, reason)] * 3
        assert chat.answer(questions(3), schema=SCHEMA) == answers
        assert server.stats()["requests"] == 3
        assert sum(row.unreadable for row in chat.journal.usage()) == 3


@pytest.mark.slow
def test_whatever_fails_for_a_moment_is_answered_in_the_end_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    kinds = {
        **dict.fromkeys(["rate_limited", "error_at_once", "error_late", "dropped"], 0.05),
        **dict.fromkeys(["bomb", "misshapen", "miscounted", "redirected"], 0.03),
        **dict.fromkeys(["hanging", "trickling"], 0.015),
    }
    faults = ",".join(f"{kind}={share}" for kind, share in kinds.items())
    with chat_server("--faults", faults, "--latency", 0.02) as server:
        chat = chat_at(server, tmp_path, timeout=2.0)
        answers = chat.answer(questions(300), schema=SCHEMA)
        assert Counter(answer.reason for answer in answers) == {None: 300}
        stats = server.stats()
        assert set(stats["faults"]) == set(kinds)
        assert (stats["paid_bodies"], stats["paid_again"], stats["followed"]) == (300, 0, 0)
        [row] = chat.journal.usage()
        assert (row.requests, row.retries) == (300, stats["requests"] - 300)
        unsure = ("dropped", "hanging", "trickling", "bomb", "misshapen")
        lost = sum(stats["faults"][kind] for kind in unsure) + stats["abandoned"]
        least, most = (at_most(chat, questions(300)[place], SCHEMA) for place in (0, -1))
        assert lost * least <= row.unsure_usd <= lost * most, "longer numbers, longer questions"


def test_errors_that_last_stop_everything_at_once(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_at(server, tmp_path, concurrency=2)
    with pytest.raises(DeeperError, match="status 404"):
        chat_at(server, tmp_path, concurrency=2, model="unknown-model").answer(questions(50))
    assert server.stats()["requests"] <= 2
    senseless = chat.endpoint.model_copy(update={"max_tokens": -1})
    with pytest.raises(DeeperError, match=r"status 400: .*max_tokens"):
        replace(chat, endpoint=senseless).answer(questions(50))
    assert server.stats()["requests"] <= 4


def test_a_wrong_key_is_an_error_that_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server("--key-env", "SERVERS_KEY", SERVERS_KEY="right") as server:
        monkeypatch.setenv("CLIENTS_KEY", SECRET)
        chat = chat_at(server, tmp_path, key_env="CLIENTS_KEY")
        with pytest.raises(DeeperError, match=r"status 401: .* key provided: \$CLIENTS_KEY") as error:
            chat.answer(questions(1))
        assert SECRET not in "".join(traceback.format_exception(error.value))
        monkeypatch.setenv("CLIENTS_KEY", "right")
        assert chat.answer(questions(1))[0].reason is None
        assert b"right" not in (tmp_path / "journal.sqlite").read_bytes()


def test_openai_without_a_key_is_an_error_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    chat = OpenAIChat(Endpoint(model="gpt-4o-mini"), Journal(tmp_path / "journal.sqlite"))
    assert chat.endpoint.base_url == OPENAI
    with pytest.raises(DeeperError, match="set the environment variable OPENAI_API_KEY"):
        chat.answer(["Hello"])


def test_a_server_that_is_not_there_is_an_error_after_all_tries(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        chat = chat_to(url, tmp_path, tries=2)
        with pytest.raises(DeeperError, match=r"Connection error.*after 2 tries"):
            chat.answer(questions(1))
    [row] = chat.journal.usage()
    assert (row.requests, row.retries, row.unsure_usd) == (0, 2, 0), (
        "no connection came about: nothing to pay"
    )


class PoolTimeout(Exception):
    """As the HTTP client's: no connection was free."""


@pytest.mark.parametrize(
    ("failure", "charged"),
    [(500, False), (504, True), (524, True), (PoolTimeout, False), (ConnectionResetError, True)],
)
def test_what_may_have_been_answered_may_have_been_charged(
    failure: int | type[Exception],
    charged: bool,
    server: ChatServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(request: Any, send: Any) -> Any:
        if not isinstance(failure, int):
            raise openai.APIConnectionError(request=request) from failure()
        answer = await send()
        answer.status_code = failure
        return answer

    meddle(monkeypatch, fail)
    chat = chat_at(server, tmp_path, tries=1)
    with pytest.raises(DeeperError, match="after 1 try"):
        chat.answer(questions(1))
    [row] = chat.journal.usage()
    [prompt] = questions(1)
    assert row.unsure_usd == (at_most(chat, prompt) if charged else 0)


def test_a_server_that_counts_no_tokens_is_taken_to_charge_the_most(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count_nothing(request: Any, send: Any) -> Any:
        answer = await send()
        completion = json.loads(await answer.aread())
        del completion["usage"]
        return type(answer)(200, json=completion, request=request)

    meddle(monkeypatch, count_nothing)
    [prompt] = questions(1)
    for prices in (PRICES, None):
        chat = chat_at(server, tmp_path / str(prices), prices=prices)
        assert chat.answer([prompt])[0].text
        [row] = chat.journal.usage()
        assert (row.requests, row.output_tokens) == (1, 0)
        assert row.cost_usd == (at_most(chat, prompt) if prices else 0)
    assert PRICES.cost(0, 0, 1) > 0


# ------------------------------------------------------------------------------------------------ pace


def test_fewer_requests_go_out_while_the_server_says_429(tmp_path: Path) -> None:
    # So few a second that a busy machine asks for more, too.
    with chat_server("--requests-per-second", 20, "--latency", 0.1) as server:
        chat = chat_at(server, tmp_path, concurrency=24)
        answers = chat.answer(questions(80), schema=SCHEMA)
        assert all(answer.reason is None for answer in answers)
        stats = server.stats()
        assert stats["paid_again"] == 0
        assert 0 < stats["statuses"]["429"] < 80, "fewer than answers: it does not hammer"


def test_waiting_for_a_turn_is_not_waiting_for_a_server_that_says_429(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    async def limit_the_fourth(request: Any, send: Any) -> Any:
        await asyncio.sleep(0.4)
        answer = await send()
        sent.append(request)
        if len(sent) == 4:
            answer.status_code = 429
        return answer

    meddle(monkeypatch, limit_the_fourth)
    monkeypatch.setattr(failures, "LONGEST_LIMITED", 1.0)
    assert len(chat_at(server, tmp_path, concurrency=1).answer(questions(4), schema=SCHEMA)) == 4
    assert len(sent) == 5


def test_the_limit_follows_the_share_of_429() -> None:
    async def play() -> list[float]:
        limit = AdaptiveLimit(20)
        seen = []
        for limited in (0, 1, 10, 0, 0):  # of each round
            for place in range(round(limit.now + 0.5)):
                limit.hear(place < limited)
            seen.append(limit.now)
        return seen

    # One 429 among 20 changes nothing; ten take half away, and a tenth of the limit comes back a round.
    assert asyncio.run(play()) == [20, 20, 10, 12, 14]


def test_the_limit_holds() -> None:
    async def play() -> int:
        limit, at_once, most = AdaptiveLimit(3), 0, 0

        async def work() -> None:
            nonlocal at_once, most
            async with limit.slot():
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(0.001)
                at_once -= 1

        await asyncio.gather(*(work() for _ in range(20)))
        return most

    assert asyncio.run(play()) == 3


def test_a_server_says_how_long_to_wait() -> None:
    assert 2 <= seconds_until_next(1, {"retry-after": "2"}) <= 2.2
    assert 0.5 <= seconds_until_next(2, {"retry-after-ms": "500", "retry-after": "9"}) <= 0.9
    assert 0 <= seconds_until_next(1, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) <= 0.2
    assert max(seconds_until_next(30, {}) for _ in range(50)) <= 60
    assert 0 <= seconds_until_next(2000, {}) <= 60


# ----------------------------------------------------------------------------------------------- money


def test_a_cap_is_never_broken_and_what_is_paid_for_is_kept(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_at(server, tmp_path, cap_usd=0.03)
    with pytest.raises(DeeperError, match=r"max_cost_usd 0\.03 is reached"):
        chat.answer(questions(200), schema=SCHEMA)
    spent, on_its_way = chat.journal.committed_usd()
    answered = chat.journal.size()[0]
    assert on_its_way == 0
    assert spent == pytest.approx(sum(line["cost_usd"] for line in chat.journal.export()))
    assert spent <= 0.03
    assert 0 < answered < 200
    assert server.stats()["requests"] == answered
    richer = chat_at(server, tmp_path, cap_usd=5.0)
    assert len(richer.answer(questions(200), schema=SCHEMA)) == 200
    assert server.stats()["requests"] == 200, "nothing that was paid for was asked again"


def test_a_cap_needs_prices(server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(DeeperError, match="max_cost_usd is 1, but what local costs is not known"):
        chat_at(server, tmp_path, cap_usd=1.0, prices=None).answer(questions(1))


# ------------------------------------------------------------------------------------------- processes


@pytest.mark.slow
def test_a_killed_process_goes_on_without_asking_again(tmp_path: Path) -> None:
    with chat_server("--latency", 0.1) as server:
        process = in_process(server, tmp_path, questions(200), concurrency=8)
        journal = Journal(tmp_path / "journal.sqlite")
        wait_until(lambda: journal.size()[0] > 40)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kept = journal.size()[0]
        assert 40 < kept < 200
        wait_until(lambda: server.stats()["in_flight"] == 0)
        before = server.stats()["requests"]
        chat = chat_at(server, tmp_path)
        chat.answer(questions(200), schema=SCHEMA)
        assert server.stats()["requests"] - before == 200 - kept
        # At most what was on its way at that moment: nobody had its answers.
        assert server.stats()["paid_again"] <= 8


@pytest.mark.slow
def test_two_processes_that_ask_the_same_pay_once(tmp_path: Path) -> None:
    with chat_server("--latency", 0.05) as server:
        processes = [in_process(server, tmp_path, questions(100), concurrency=8) for _ in range(2)]
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0]
        assert server.stats()["requests"] == 100
        usage = Journal(tmp_path / "journal.sqlite").usage()
        assert (sum(row.requests for row in usage), sum(row.hits for row in usage)) == (100, 100)


# --------------------------------------------------------------------------------------------- batches


def batch_ids(server: ChatServer) -> list[str]:
    return [batch.id for batch in openai.OpenAI(base_url=server.url, api_key="none").batches.list()]


def test_batches_are_cut_answered_and_half_the_price(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.2) as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_requests=40, batch_poll=0.05)
        assert chat.answer(questions(100), schema=SCHEMA) == chat_at(server, tmp_path / "b").answer(
            questions(100), schema=SCHEMA
        )
        assert len(batch_ids(server)) == 3
        [row], [live] = chat.journal.usage(), Journal(tmp_path / "b" / "journal.sqlite").usage()
        assert row.cost_usd == pytest.approx(live.cost_usd / 2)
        assert chat.journal.batches(server.url) == []


@pytest.mark.slow
def test_batches_of_other_requests_are_not_waited_for(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 3) as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.05)
        first = threading.Thread(target=chat.answer, args=[questions(3, " and dill")])
        first.start()
        wait_until(lambda: [b.provider_id is not None for b in chat.journal.batches(server.url)] == [True])
        assert len(chat.answer(questions(3))) == 3
        first.join(60)
        later, earlier = openai.OpenAI(base_url=server.url, api_key="none").batches.list()
        assert earlier.completed_at is not None
        assert later.created_at < earlier.completed_at
        assert server.stats()["paid"] == 6


def test_lines_that_fail_and_batches_that_expire_are_handed_in_again(tmp_path: Path) -> None:
    with chat_server(
        "--batch-seconds", 0.1, "--faults", "batch_line=0.2,batch_expired=0.3,batch_failed=0.2,refused=0.1"
    ) as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_requests=20, batch_poll=0.02)
        answers = chat.answer(questions(100), schema=SCHEMA)
        reasons = Counter(answer.reason for answer in answers)
        assert set(reasons) == {None, "refusal"}
        assert len(batch_ids(server)) > 5
        assert server.stats()["paid_again"] == 0


def test_a_batch_that_asks_for_schemas_in_vain_says_what_to_set(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.1, "--no-schemas") as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02)
        with pytest.raises(DeeperError, match=r"status 400: .*; set chat\.structured to false"):
            chat.answer(questions(3), schema=SCHEMA)
        in_words = chat_at(server, tmp_path, mode="batch", batch_poll=0.02, structured=False)
        assert in_words.answer(questions(3)) == OfflineChatModel().answer(questions(3))


def test_a_batch_that_cannot_be_handed_in_is_asked_anew_by_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server("--batch-seconds", 0.1, "--key-env", "SERVERS_KEY", SERVERS_KEY="right") as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02, key_env="CLIENTS_KEY", tries=2)
        monkeypatch.setenv("CLIENTS_KEY", SECRET)
        for _ in ("handing in", "looking for what was not handed in"):
            with pytest.raises(DeeperError, match=r"key provided: \$CLIENTS_KEY") as error:
                chat.answer(questions(3), schema=SCHEMA)
            assert SECRET not in "".join(traceback.format_exception(error.value))
            assert [batch.abandoned for batch in chat.journal.batches(server.url)] == [True]
        monkeypatch.setenv("CLIENTS_KEY", "right")
        assert len(chat.answer(questions(3), schema=SCHEMA)) == 3
        assert chat.journal.batches(server.url) == []


def test_a_batch_is_not_begun_again_where_the_answer_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []

    async def lose_the_first(request: Any, send: Any) -> Any:
        answer = await send()
        if (request.method, request.url.path) == ("POST", "/v1/batches") and not lost:
            lost.append(answer.status_code)
            raise openai.APIConnectionError(request=request)
        return answer

    meddle(monkeypatch, lose_the_first)
    with chat_server("--batch-seconds", 0.1) as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02)
        assert len(chat.answer(questions(3), schema=SCHEMA)) == 3
        assert lost == [200]
        assert len(batch_ids(server)) == 1
        assert server.stats()["paid_again"] == 0


def test_line_breaks_within_answers_do_not_cut_the_lines_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = "Beef\u2028stew\x85"

    async def break_titles(request: Any, send: Any) -> Any:
        answer = await send()
        if request.url.path.endswith("/content"):
            answer._content = answer.content.replace(b"Beef stew", title.encode())
        return answer

    meddle(monkeypatch, break_titles)
    with chat_server("--batch-seconds", 0.1) as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02)
        [answer] = chat.answer(questions(1), schema=SCHEMA)
        assert answer.text is not None
        assert answer.text.count(title) == 10


def test_a_queue_without_room_is_tried_again_and_then_an_error(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.1, "--faults", "batch_failed=1") as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02)
        with pytest.raises(DeeperError, match="3 of 3 requests came back unanswered from 8 batches in turn"):
            chat.answer(questions(3), schema=SCHEMA)
        assert chat.journal.batches(server.url) == []


def test_lines_that_fail_for_good_are_an_error_at_once(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02, model="unknown-model")
    with pytest.raises(DeeperError, match=r"batch \S+: status 404: .*unknown-model"):
        chat.answer(questions(3), schema=SCHEMA)
    assert chat.journal.batches(server.url) == []


def test_a_cap_lets_batches_go_in_parts_and_stops(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.05) as server:
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.02, cap_usd=0.03)
        with pytest.raises(DeeperError, match=r"max_cost_usd 0\.03 is reached"):
            chat.answer(questions(200), schema=SCHEMA)
        spent, on_its_way = chat.journal.committed_usd()
        assert 0 < spent <= 0.03
        assert (on_its_way, chat.journal.batches(server.url)) == (0, [])


@pytest.mark.slow
def test_a_killed_process_finds_its_batches_again(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 2) as server:
        values = {"mode": "batch", "batch_requests": 30, "batch_poll": 0.1}
        process = in_process(server, tmp_path, questions(60), **values)
        journal = Journal(tmp_path / "journal.sqlite")
        wait_until(lambda: [b.provider_id is not None for b in journal.batches(server.url)] == [True, True])
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        chat = chat_at(server, tmp_path, **values)
        assert len(chat.answer(questions(60), schema=SCHEMA)) == 60
        assert len(batch_ids(server)) == 2
        assert server.stats()["paid_again"] == 0


def requests_of(chat: OpenAIChat, prompts: list[str]) -> dict[Key, dict[str, Any]]:
    bodies = [chat.endpoint.body(prompt, SCHEMA) for prompt in prompts]
    return {chat.endpoint.key(body, 0): body for body in bodies}


def claim_and_die(url: str, folder: Path, prompts: list[str]) -> None:
    chat = chat_to(url, folder)
    for key in requests_of(chat, prompts):
        assert chat.journal.claim(key, "local", 0.01) == "granted"
    os.kill(os.getpid(), signal.SIGKILL)


def open_batch_and_die(url: str, folder: Path, prompts: list[str], hand_in: bool) -> None:
    """As a process that is killed between handing a batch in and noting what the provider calls it."""
    chat = chat_to(url, folder)
    requests = requests_of(chat, prompts)
    chat.journal.open_batch("ours", url, "local", requests, 0.01)
    if hand_in:
        client = openai.OpenAI(base_url=url, api_key="none")
        path = "/v1/chat/completions"
        lines = [
            {"custom_id": f"{key[0]}-{key[1]}", "method": "POST", "url": path, "body": body}
            for key, body in requests.items()
        ]
        content = "\n".join(map(json.dumps, lines)).encode()
        file = client.files.create(file=("ours.jsonl", content), purpose="batch")
        client.batches.create(
            input_file_id=file.id, endpoint=path, completion_window="24h", metadata={LABEL: "ours"}
        )
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("handed_in", [True, False])
def test_a_batch_whose_id_never_came_is_found_by_name_or_asked_anew(handed_in: bool, tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.2) as server:
        die_in_process(open_batch_and_die, server.url, tmp_path, questions(10), handed_in)
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.05)
        assert len(chat.answer(questions(10), schema=SCHEMA)) == 10
        assert len(batch_ids(server)) == 1
        assert server.stats()["paid_again"] == 0


@pytest.mark.slow
def test_what_a_killed_batch_run_handed_in_is_read_by_a_live_one(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.5) as server:
        die_in_process(open_batch_and_die, server.url, tmp_path, questions(10), True)
        chat = chat_at(server, tmp_path, batch_poll=0.05)
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.extend(chat.answer(questions(12), schema=SCHEMA)), daemon=True
        )
        asking.start()
        asking.join(30)
        assert Counter(answer.reason for answer in answers) == {None: 12}
        assert (server.stats()["requests"], server.stats()["paid"]) == (2, 12)


@pytest.mark.slow
def test_what_a_killed_batch_run_handed_in_is_booked_though_nobody_asks_for_it(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0) as server:
        die_in_process(open_batch_and_die, server.url, tmp_path, questions(10), True)
        chat = chat_at(server, tmp_path)
        assert len(chat.answer(questions(2, " and dill"), schema=SCHEMA)) == 2
        assert chat.journal.batches(server.url) == []
        assert sum(row.requests for row in chat.journal.usage()) == 12
        assert chat.journal.committed_usd()[1] == 0


@pytest.mark.slow
def test_what_a_killed_live_run_was_asking_is_handed_in(tmp_path: Path) -> None:
    with chat_server("--batch-seconds", 0.1) as server:
        die_in_process(claim_and_die, server.url, tmp_path, questions(10))
        chat = chat_at(server, tmp_path, mode="batch", batch_poll=0.05)
        assert len(chat.answer(questions(10), schema=SCHEMA)) == 10
        assert sum(row.unsure_usd for row in chat.journal.usage()) == pytest.approx(0.1)


def test_a_server_that_is_restarted_in_the_middle_is_waited_for(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with chat_server("--latency", 0.05, port=port) as server:
        chat = chat_at(server, tmp_path, concurrency=4, tries=12)
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.extend(chat.answer(questions(60), schema=SCHEMA)))
        asking.start()
        wait_until(lambda: server.stats()["paid_bodies"] > 10)
        server.kill()
        with chat_server("--latency", 0.05, port=port):
            asking.join(60)
    assert Counter(answer.reason for answer in answers) == {None: 60}
