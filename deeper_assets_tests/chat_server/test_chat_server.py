"""The chat server as a real process, asked by OpenAI's own client."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    DefaultAsyncHttpxClient,
    NotFoundError,
)

from deeper_assets.engines.offline.chat_model import OfflineChatModel
from deeper_assets.layers import load_settings
from deeper_assets.method.asking import ratings_schema
from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.parsing import parse_ratings
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets_tests.chat_server.completions import Completions, tokens
from deeper_assets_tests.chat_server.faults import BATCH, LASTING, PASSING, Faults
from deeper_assets_tests.chat_server.process import ChatServer, chat_server
from deeper_assets_tests.chat_server.spoiled import BOMB_SIZE, SHAPES

BOOK = find_domain("book")
TITLES = ["Café murders", "A dragon's tale"]
PERSONA_PROMPT = Prompts().initial_persona(BOOK, [RatedItem(title, 5) for title in TITLES])
SERVER = "deeper_assets_tests.chat_server"
HALVES = {"filtered": "content_filter", "cut": "length"}
KINDS = {
    307: "redirected",
    400: "rejected",
    429: "rate_limited",
    500: "error_at_once",
    503: "error_late",
}


def prediction(number: int) -> str:
    return Prompts().prediction(BOOK, f"Reader {number} likes mysteries.", TITLES)


def offline(prompt: str) -> str:
    (answer,) = OfflineChatModel().answer([prompt])
    assert answer.text is not None
    return answer.text


def body(prompt: str) -> dict[str, Any]:
    return {"model": "local", "messages": [{"role": "user", "content": prompt}]}


def ask(server: ChatServer, asking: Callable[[AsyncOpenAI], Awaitable[Any]], **more: Any) -> Any:
    """What `asking` makes of a client of `server` that does not try again by itself."""

    async def run() -> Any:
        options = {"api_key": "unused", "max_retries": 0, **more}
        async with AsyncOpenAI(base_url=server.url, **options) as client:
            return await asking(client)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def plain() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


@pytest.fixture
def server(plain: ChatServer) -> ChatServer:
    """A server without faults that has counted nothing yet."""
    plain.reset()
    return plain


def test_it_answers_as_the_offline_model_and_counts_what_is_paid(server: ChatServer) -> None:
    completion = ask(server, lambda client: client.chat.completions.create(**body(PERSONA_PROMPT)))
    assert completion.choices[0].message.content == offline(PERSONA_PROMPT)
    assert completion.choices[0].finish_reason == "stop"
    # Four bytes of UTF-8 are a token, the last one perhaps not full.
    asked, answered = (
        -(-len(text.encode()) // 4) for text in (PERSONA_PROMPT, completion.choices[0].message.content)
    )
    assert completion.usage.prompt_tokens == asked > 10
    assert completion.usage.completion_tokens == answered > 10
    assert completion.usage.total_tokens == asked + answered
    assert completion.usage.prompt_tokens_details.cached_tokens == 0
    ask(server, lambda client: client.chat.completions.create(**body(PERSONA_PROMPT)))
    counted = server.stats()
    assert (counted["requests"], counted["bodies"], counted["paid"], counted["paid_again"]) == (2, 1, 2, 1)
    assert (counted["prompt_tokens"], counted["completion_tokens"]) == (2 * asked, 2 * answered)
    assert (counted["statuses"], counted["faults"]) == ({"200": 2}, {})


def test_under_a_schema_the_ratings_stand_in_an_object(server: ChatServer) -> None:
    form = {
        "type": "json_schema",
        "json_schema": {"name": "ratings", "schema": ratings_schema(BOOK.scale), "strict": True},
    }
    request = {**body(prediction(0)), "response_format": form}
    completion = ask(server, lambda client: client.chat.completions.create(**request))
    text = completion.choices[0].message.content
    assert json.loads(text) == {"ratings": json.loads(offline(prediction(0)))}
    assert parse_ratings(text, TITLES, BOOK.scale) == parse_ratings(
        offline(prediction(0)), TITLES, BOOK.scale
    )


def test_an_answer_is_cut_where_the_client_says(server: ChatServer) -> None:
    completion = ask(
        server, lambda client: client.chat.completions.create(**body(PERSONA_PROMPT), max_tokens=5)
    )
    assert completion.choices[0].message.content == offline(PERSONA_PROMPT)[:20]
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 5


@pytest.mark.parametrize(
    ("changed", "error", "code", "param"),
    [
        ({"model": "gpt-9"}, NotFoundError, "model_not_found", "model"),
        ({"messages": []}, BadRequestError, None, "messages"),
        ({"messages": [{"role": "system", "content": "x"}] * 2}, BadRequestError, None, "messages"),
        ({"n": 2}, BadRequestError, "unsupported_parameter", "n"),
        ({"max_tokens": 0}, BadRequestError, None, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, BadRequestError, None, "response_format"),
    ],
)
def test_what_it_cannot_do_it_says(
    server: ChatServer,
    changed: dict[str, Any],
    error: type[APIStatusError],
    code: str | None,
    param: str | None,
) -> None:
    with pytest.raises(error) as caught:
        ask(server, lambda client: client.chat.completions.create(**{**body("x"), **changed}))
    assert (caught.value.code, caught.value.param) == (code, param)
    assert server.stats()["paid"] == 0


def test_it_lists_its_models(server: ChatServer) -> None:
    models = ask(server, lambda client: client.models.list())
    assert [model.id for model in models.data] == ["local", "gpt-4o-mini-2024-07-18"]


async def outcome(client: AsyncOpenAI, prompt: str) -> str:
    """Which kind of fault a request met, by what the client saw; "none" for an answer."""
    try:
        async with asyncio.timeout(6):
            answer = await client.chat.completions.with_raw_response.create(**body(prompt))
    except TimeoutError:
        return "trickling"
    except APITimeoutError:
        return "hanging"
    except APIConnectionError:
        return "dropped"
    except APIStatusError as error:
        if error.status_code == 429:
            assert error.response.headers["retry-after"] == "1"
            assert error.response.headers["retry-after-ms"] == "500"
        if error.status_code == 400:
            assert error.code == "content_policy_violation"
        if error.status_code == 307:
            assert error.response.headers["location"] == f"{client.base_url}chat/completions".replace(
                "127.0.0.1", "localhost"
            )
        return KINDS[error.status_code]
    if len(answer.content) > 1_000_000:
        assert len(answer.content) == BOMB_SIZE
        return "bomb"
    if answer.content in SHAPES:
        return "misshapen"
    completion = answer.parse()
    (choice,) = completion.choices
    if choice.message.refusal is not None:
        assert choice.message.content is None
        return "refused"
    whole = offline(prompt)
    for kind, reason in HALVES.items():
        if choice.finish_reason == reason:
            assert choice.message.content == whole[: len(whole) // 2]
            return kind
    assert choice.finish_reason == "stop"
    assert choice.message.content == whole
    assert completion.usage is not None
    counted = completion.usage.completion_tokens == tokens(whole)
    return "none" if counted else "miscounted"


def test_every_fault_reaches_the_client_and_is_the_one_that_the_request_decides() -> None:
    share = "0.8"
    faults = Faults.parse(share, seed=0)
    prompts = [prediction(number) for number in range(120)]
    questions = [Completions(faults).read(json.dumps(body(prompt)).encode()) for prompt in prompts]
    tries = [
        [question.fault or faults.passing(question.key, times) or "none" for question in questions]
        for times in range(2)
    ]
    assert set(tries[0]) == {*PASSING, *LASTING, "none"}

    async def both(client: AsyncOpenAI) -> list[list[str]]:
        return [await asyncio.gather(*(outcome(client, prompt) for prompt in prompts)) for _ in range(2)]

    with chat_server("--faults", share, "--seed", 0, "--latency", 0.05) as server:
        stays = DefaultAsyncHttpxClient(follow_redirects=False)
        assert ask(server, both, timeout=2, http_client=stays) == tries
        counted = server.stats()
    met = Counter(tries[0] + tries[1])
    paid = {"none", "miscounted", "refused", "filtered", "cut"}
    assert counted["faults"] == {kind: times for kind, times in sorted(met.items()) if kind != "none"}
    assert counted["paid"] == sum(met[kind] for kind in paid)
    assert counted["bodies"] == 120
    assert counted["paid_again"] == sum({first, second} <= paid for first, second in zip(*tries, strict=True))


def test_shares_are_kept_and_another_seed_hits_others() -> None:
    faults = Faults.spread(0.2, seed=1)
    keys = [f"{number:032x}" for number in range(20_000)]
    met = Counter(faults.lasting(key) or faults.passing(key, 0) for key in keys)
    for kind, part in (PASSING | LASTING).items():
        assert met[kind] / len(keys) == pytest.approx(0.2 * part, abs=0.004)
    assert sum((PASSING | LASTING).values()) == pytest.approx(1)
    lasting = {key for key in keys if faults.lasting(key)}
    others = {key for key in keys if replace(faults, seed=2).lasting(key)}
    assert len(lasting & others) < 0.2 * len(lasting)
    # A second try meets passing faults as often as the first, and not the same ones.
    again = Counter(faults.passing(key, 1) for key in keys if key not in lasting)
    assert again["dropped"] == pytest.approx(met["dropped"], rel=0.15)
    assert {name: getattr(faults, name) for name in BATCH} == {
        "batch_line": pytest.approx(0.12),
        "batch_expired": pytest.approx(0.1),
        "batch_failed": pytest.approx(0.1),
    }


def test_shares_by_kind_are_read() -> None:
    assert Faults.parse("dropped=0.1, refused=0.05", seed=4) == Faults(4, dropped=0.1, refused=0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("many", "neither a share"),
        ("droped=0.1", "'droped' is no kind of fault; known: rate_limited, "),
        ("cut=1.5", "cut = 1.5 is no share"),
        ("cut=0.6,dropped=0.6", "add up to 1.2"),
        ("-0.1", "is no share"),
    ],
)
def test_wrong_faults_are_errors_that_say_why(text: str, message: str) -> None:
    with pytest.raises(DeeperError, match=message):
        Faults.parse(text)


def test_more_requests_than_the_limit_are_told_when_to_come_again() -> None:
    async def burst(client: AsyncOpenAI) -> list[str]:
        answers = (client.chat.completions.create(**body(prediction(number))) for number in range(12))
        return [answer.choices[0].finish_reason for answer in await asyncio.gather(*answers)]

    with chat_server("--requests-per-second", 8) as server:
        assert ask(server, burst, max_retries=10) == ["stop"] * 12
        counted = server.stats()
    assert (counted["paid"], counted["paid_again"]) == (12, 0)
    assert (
        counted["faults"]["over_rate"] == counted["statuses"]["429"] >= 3
    )  # eight at once, then eight a second


def test_it_counts_what_is_in_flight_and_who_went_away() -> None:
    async def eight(client: AsyncOpenAI) -> list[object]:
        answers = (client.chat.completions.create(**body(prediction(number))) for number in range(8))
        return await asyncio.gather(*answers, return_exceptions=True)

    with chat_server("--latency", 1) as server:
        assert all(isinstance(outcome, APITimeoutError) for outcome in ask(server, eight, timeout=0.3))
        assert not any(isinstance(outcome, Exception) for outcome in ask(server, eight))
        counted = server.stats()
    assert (counted["most_in_flight"], counted["in_flight"]) == (16, 0)
    assert (counted["abandoned"], counted["paid"], counted["requests"]) == (8, 8, 16)


def test_a_server_with_a_key_that_knows_no_schemas() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    with chat_server("--key-env", "CHAT_TEST_KEY", "--no-schemas", CHAT_TEST_KEY="sesame") as server:
        for asking in (
            lambda client: client.chat.completions.create(**body("x")),
            lambda client: client.batches.list(),
        ):
            with pytest.raises(AuthenticationError, match="Incorrect API key"):
                ask(server, asking)
        with pytest.raises(BadRequestError) as caught:
            ask(
                server,
                lambda client: client.chat.completions.create(**body("x"), response_format=form),
                api_key="sesame",
            )
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")
        assert server.stats()["statuses"] == {"400": 1}


def serve(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", SERVER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_says_how_to_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve("--port", "0") as process:
        assert process.stdout is not None
        process.stdout.readline()
        *variables, command, argument = process.stdout.readline().split()
        process.send_signal(signal.SIGTERM)
        try:
            # As one that was told to stop, or as one that has stopped: that depends on what it was at.
            assert process.wait(60) in {-signal.SIGTERM, 0}
        finally:
            process.kill()
    assert (command, argument) == ("deeper", "run")
    for variable in variables:
        monkeypatch.setenv(*variable.split("=", 1))
    chat = load_settings(tmp_path).chat
    assert chat.engine == "openai"
    assert chat.base_url is not None
    assert chat.base_url.startswith("http://127.0.0.1:")
    assert chat.model == "local"


def test_clients_that_break_off_leave_no_trace() -> None:
    with serve("--port", "0", "--faults", "hanging=1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        root = process.stdout.readline().split("BASE_URL=")[1].split("/v1")[0]
        port = int(root.rsplit(":", 1)[1])
        for path in ("chat/completions", "files"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                head = f"POST /v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
                form = "content-type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                connection.sendall((head + form).encode())
        with socket.create_connection(("127.0.0.1", port)) as connection:
            asked = json.dumps(body(PERSONA_PROMPT)).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(asked)}\r\n\r\n"
            connection.sendall(head.encode() + asked)
            server = ChatServer(root, process)
            while (counted := server.stats())["faults"] != {"hanging": 1}:
                time.sleep(0.01)
            assert (counted["in_flight"], counted["paid"]) == (1, 0)
            process.send_signal(signal.SIGTERM)
            answer = connection.makefile("rb").readline()
        assert not answer.startswith(b"HTTP/1.1 200")
        assert "Traceback" not in process.communicate()[1]


@pytest.mark.parametrize("missing", ["python_multipart", "uvicorn"])
def test_without_the_test_extra_the_command_says_what_to_install(missing: str) -> None:
    code = f"import runpy, sys; sys.modules['{missing}'] = None; runpy.run_module({SERVER!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"chat_server: there is no {missing}; it comes with pip install -e '.[test]'\n"


def test_the_command_names_what_is_wrong(server: ChatServer) -> None:
    port = server.root.rsplit(":", 1)[1]
    for arguments, message in (
        (["--port", port], f"port {port} cannot be served (Address already in use); try another --port"),
        (["--port", "0", "--key-env", "NO_SUCH_KEY"], "this environment variable holds no key"),
        (["--port", "0", "--faults", "many"], "faults 'many' are neither a share"),
    ):
        with serve(*arguments) as process:
            stdout, stderr = process.communicate()
        assert (process.returncode, stdout) == (1, "")
        assert stderr.startswith("chat_server: ")
        assert message in stderr
        assert stderr.count("\n") == 1
