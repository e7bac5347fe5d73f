"""Whatever endpoints answer, nothing hangs, fills the memory, leaks, or ends a run without a reason."""

import asyncio
import base64
import gzip
import html
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeper_assets.engines.chat import batches
from deeper_assets.engines.chat.batches import LABEL, Batches
from deeper_assets.engines.chat.endpoint import Endpoint, Prices
from deeper_assets.engines.chat.failures import Failed
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.engines.chat.journal_file import writing
from deeper_assets.engines.chat.openai_chat import OpenAIChat
from deeper_assets.engines.secrets import scrubbed, without_key
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.benchmarks.whole_runs import memory_of
from deeper_assets_tests.chat_server.process import chat_server
from deeper_assets_tests.chat_server.spoiled import COUNTS, SHAPES
from deeper_assets_tests.engines.hostile import Answer, Hostile, hostile

KEY = "sk-proj-Zp8!q/~+7mW3xT9vLk2R"
PRICES = Prices(1.0, 10.0)
COMPLETION = {
    "choices": [{"message": {"content": "Likes crime."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}


def chat_to(url: str, folder: Path, **values: Any) -> OpenAIChat:
    given = {"model": "local", "base_url": url, "prices": PRICES, "tries": 2, "timeout": 5.0, **values}
    return OpenAIChat(Endpoint(**given), Journal(folder / "journal.sqlite"))


def refused(chat: OpenAIChat) -> str:
    """What the error says."""
    with pytest.raises(DeeperError) as error:
        chat.answer(["Hello"])
    return str(error.value)


def most_usd(chat: OpenAIChat) -> float:
    most = chat.endpoint.most_usd(chat.endpoint.body("Hello", None))
    assert most is not None
    return most


# ------------------------------------------------------------------------------------------------- bounds


def test_an_answer_that_trickles_ends_at_the_timeout(tmp_path: Path) -> None:
    def trickle() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.05)

    with hostile(lambda *_: Answer(trickle())) as server:
        chat = chat_to(server.url, tmp_path, timeout=0.5)
        message = refused(chat)
    assert f"local at {server.url}: no whole answer within 0.5 s (after 2 tries" in message
    [row] = chat.journal.usage()
    assert (row.requests, row.retries, row.unsure_usd) == (0, 2, pytest.approx(2 * most_usd(chat)))


ASK = """
import sys
from pathlib import Path
from deeper_assets_tests.hostile_texts import highest_memory
from deeper_assets_tests.engines.chat.test_hostile_endpoints import chat_to
from deeper_assets.method.exceptions import DeeperError
chat_to(sys.argv[1], Path(sys.argv[2])).answer([])
import openai
before = highest_memory()
try:
    chat_to(sys.argv[1], Path(sys.argv[2])).answer(["Hello"])
except DeeperError as error:
    print(error)
print((highest_memory() - before) // 2**20)
"""


@pytest.mark.parametrize(
    "kind", ["endless", "bomb", "bomb in an error", "bomb in a redirect", "endless after its end"]
)
def test_an_answer_without_an_end_fills_no_memory(kind: str, tmp_path: Path) -> None:
    """A gigabyte is on offer; the process grows by a few megabytes."""
    block = b" " * 2**20
    small = gzip.compress(block * 64)  # a few kilobytes; sixteen of them make a gigabyte
    status = {"bomb in an error": 500, "bomb in a redirect": 307}.get(kind, 200)

    def respond(_: str, path: str) -> Answer:
        headers = {"content-type": "application/json"}
        if kind != "endless":
            headers["content-encoding"] = "gzip"
        if status == 307:
            headers["location"] = f"{path}/again"
        parts = {"endless": [block] * 1024, "endless after its end": [gzip.compress(b"{}"), *[block] * 1024]}
        return Answer(parts.get(kind, [small] * 16), status, headers)

    with hostile(respond) as server:
        done = subprocess.run(
            [sys.executable, "-c", ASK, server.url, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    message, grown = done.stdout.splitlines()
    expected = "redirects more than 5 times" if status == 307 else "an answer of more than 393,216 bytes"
    assert expected in message
    assert int(grown) < 60


@pytest.mark.parametrize("asked", ["1e300", "inf", "86400"])
def test_a_server_may_not_ask_to_wait_for_ever(asked: str, tmp_path: Path) -> None:
    from deeper_assets.engines.chat.pacing import LONGEST_ASKED, seconds_asked_for

    assert seconds_asked_for({"retry-after": asked}) == LONGEST_ASKED == 900


# -------------------------------------------------------------------------------------------------- shape


@pytest.mark.parametrize("content", SHAPES, ids=lambda shape: shape[:40].decode())
def test_an_answer_of_another_shape_is_asked_for_again_and_then_an_error(
    content: bytes, tmp_path: Path
) -> None:
    with hostile(Answer([content])) as server:
        chat = chat_to(server.url, tmp_path)
        message = refused(chat)
        assert len(server.heard) == 2
    assert f"local at {server.url}: status 200, but an answer of another shape (" in message
    assert content[:40].decode() in message
    [row] = chat.journal.usage()
    assert (row.requests, row.unsure_usd) == (0, pytest.approx(2 * most_usd(chat)))


@pytest.mark.parametrize("count", COUNTS, ids=str)
def test_counts_that_cannot_be_believed_are_booked_at_the_most(count: Any, tmp_path: Path) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count}
    content = json.dumps(COMPLETION | {"usage": usage}).encode()
    with hostile(Answer([content])) as server:
        chat = chat_to(server.url, tmp_path)
        assert chat.answer(["Hello"])[0].text == "Likes crime."
    [row] = chat.journal.usage()
    assert (row.requests, row.input_tokens, row.cost_usd) == (1, 0, pytest.approx(most_usd(chat)))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 10**9}}, 3),
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": -9}}, 0),
    ],
)
def test_no_count_makes_an_answer_cost_nothing_or_less(
    usage: dict[str, Any], tokens: int | None, tmp_path: Path
) -> None:
    """`tokens` are the cached ones; None where the most is booked."""
    with hostile(Answer([json.dumps(COMPLETION | {"usage": usage}).encode()])) as server:
        chat = chat_to(server.url, tmp_path, prices=Prices(1.0, 10.0, cached_input=0.1))
        chat.answer(["Hello"])
    [row] = chat.journal.usage()
    expected = most_usd(chat) if tokens is None else (3 - tokens + 0.1 * tokens + 40) / 1e6
    assert row.cost_usd == pytest.approx(expected)


def test_a_server_that_counts_more_than_the_most_is_believed_up_to_a_hundred_times(tmp_path: Path) -> None:
    for tokens, booked in ((1_000, 0.01), (500_000, None)):
        usage = {"prompt_tokens": 1, "completion_tokens": tokens}
        with hostile(Answer([json.dumps(COMPLETION | {"usage": usage}).encode()])) as server:
            chat = chat_to(server.url, tmp_path / str(tokens), max_tokens=100)
            chat.answer(["Hello"])
        [row] = chat.journal.usage()
        assert row.cost_usd == pytest.approx(booked or most_usd(chat), rel=1e-3)


def test_a_page_for_people_says_that_the_address_is_wrong(tmp_path: Path) -> None:
    page = b"<!doctype html>\n<title>Welcome to our models</title>"
    for status in (200, 404):
        with hostile(Answer([page], status, {"content-type": "text/html"})) as server:
            message = refused(chat_to(server.url, tmp_path))
            assert len(server.heard) == 1
        assert f"status {status}" in message
        assert "<!doctype html> <title>Welcome to our models</title>" in message
        assert "see that chat.base_url is an API's address: most end in /v1" in message


LINE = {"custom_id": "KEY-0", "response": {"status_code": 200, "body": COMPLETION}}


def batch_service(server: Hostile, line: Any) -> Any:
    """A batch service that is over at once; its file has the line, for the first request that it got."""

    def respond(method: str, path: str) -> Answer:
        if path.endswith("/content"):
            [upload] = [body for method, path, body in server.heard if path.endswith("/files")][:1]
            key = upload.split(b'"custom_id": "')[1].split(b'-0"')[0]
            text = line if isinstance(line, bytes) else json.dumps(line).encode()
            return Answer([text.replace(b"KEY", key) + b"\n"])
        batch = {"id": "batch_1", "status": "completed", "output_file_id": "file-2"}
        found = {"data": [batch]} if method == "GET" and path.partition("?")[0].endswith("batches") else batch
        return Answer([json.dumps({"id": "file-1"} if path.endswith("/files") else found).encode()])

    return respond


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[1]",
        b'{"custom_id": 5}',
        b'{"custom_id": "../../etc-0"}',
        {**LINE, "response": "x"},
        {**LINE, "response": {"status_code": 200, "body": {"choices": "x"}}},
        {**LINE, "response": {"status_code": 200, "body": None}},
    ],
    ids=str,
)
def test_lines_of_a_batch_of_another_shape_may_have_been_charged(line: Any, tmp_path: Path) -> None:
    with hostile(Answer([])) as server:
        server.respond = batch_service(server, line)
        chat = chat_to(server.url, tmp_path, mode="batch", batch_poll=0.01)
        message = refused(chat)
    assert "1 of 1 requests came back unanswered from 2 batches in turn" in message
    assert "another shape" in message
    [row] = chat.journal.usage()
    most = chat.endpoint.most_usd(chat.endpoint.body("Hello", None), in_batch=True)
    assert (row.requests, row.unsure_usd) == (0, pytest.approx(2 * (most or 0)))


def test_a_line_of_a_batch_with_counts_beyond_belief_is_booked_at_the_most(tmp_path: Path) -> None:
    body = COMPLETION | {"usage": {"prompt_tokens": -5, "completion_tokens": 10**9}}
    with hostile(Answer([])) as server:
        server.respond = batch_service(server, {**LINE, "response": {"status_code": 200, "body": body}})
        chat = chat_to(server.url, tmp_path, mode="batch", batch_poll=0.01)
        assert chat.answer(["Hello"])[0].text == "Likes crime."
    [row] = chat.journal.usage()
    assert row.cost_usd == chat.endpoint.most_usd(chat.endpoint.body("Hello", None), in_batch=True)


@pytest.mark.parametrize("batch", [b'"x"', b'{"id": 5}', b'{"id": "../x", "status": "y"}', b"{}", b"[]"])
def test_a_batch_of_another_shape_is_an_error_that_shows_it(batch: bytes, tmp_path: Path) -> None:
    with hostile(Answer([batch])) as server:
        chat = chat_to(server.url, tmp_path, mode="batch", batch_poll=0.01)
        message = refused(chat)
    assert f"local at {server.url}: status 200, but an answer of another shape (" in message
    assert batch.decode() in message


def test_somebody_elses_odd_batch_does_not_hide_ours(tmp_path: Path) -> None:
    chat = chat_to("http://127.0.0.1:9/v1", tmp_path)
    chat.journal.open_batch("ours", "", "m", {("0" * 64, 0): {}}, 0.1)
    odd: list[Any] = [{"id": "a/b"}, {"id": 5}, "x", {"id": "batch_0", "output_file_id": "", "errors": []}]
    page = {"data": [*odd, {"id": "batch_1", "status": "odd", "metadata": {LABEL: "ours"}}]}
    with hostile(Answer([json.dumps(page).encode()])) as server:
        assert asyncio.run(named(server.url, tmp_path)) == "batch_1"


def test_a_list_of_batches_without_an_end_is_an_error(tmp_path: Path) -> None:
    pages = iter(range(10**9))

    def respond(*_: str) -> Answer:
        return Answer([json.dumps({"data": [{"id": f"b{next(pages)}"}], "has_more": True}).encode()])

    with hostile(respond) as server, pytest.raises(Failed, match="its list of batches goes on after 100"):
        asyncio.run(named(server.url, tmp_path))


async def named(url: str, folder: Path) -> str | None:
    """The id of the batch that we call `ours`."""
    endpoint = chat_to(url, folder).endpoint
    async with endpoint.client() as client:
        return await Batches(endpoint, Journal(folder / "journal.sqlite"), client)._named("ours")


@pytest.mark.parametrize("status", ["COMPLETED", "in_progress"])
def test_a_batch_that_is_never_over_is_an_error(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LONGEST", 0.3)
    with hostile(Answer([json.dumps({"id": "batch_1", "status": status}).encode()])) as server:
        message = refused(chat_to(server.url, tmp_path, mode="batch", batch_poll=0.01))
    expected = {
        "COMPLETED": "an answer of another shape",
        "in_progress": "batch batch_1 is in_progress after",
    }
    assert expected[status] in message


@pytest.mark.parametrize("charset", ["utf-16", "idna", "punycode", "hex", "zlib", "rot13", "undefined"])
def test_a_charset_is_not_looked_at(charset: str, tmp_path: Path) -> None:
    headers = {"content-type": f"application/json; charset={charset}"}
    with hostile(Answer([b'{"error": {"message": "Busy."}}'], 503, headers)) as server:
        assert "status 503: Busy." in refused(chat_to(server.url, tmp_path))
        assert len(server.heard) == 2
    with hostile(Answer([json.dumps(COMPLETION).encode()], 200, headers)) as server:
        assert chat_to(server.url, tmp_path / "b").answer(["Hello"])[0].text == "Likes crime."


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip", "deflate"])
def test_what_is_packed_otherwise_or_badly_is_refused(encoding: str, tmp_path: Path) -> None:
    with hostile(Answer([b"not packed"], 200, {"content-encoding": encoding})) as server:
        message = refused(chat_to(server.url, tmp_path))
    cannot = encoding in {"gzip", "deflate"}
    assert ("cannot be unpacked" if cannot else "packed, though it was asked not to be") in message


def test_an_answer_that_is_packed_is_read(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(COMPLETION).encode())
    with hostile(Answer([packed], 200, {"content-encoding": "gzip"})) as server:
        assert chat_to(server.url, tmp_path).answer(["Hello"])[0].text == "Likes crime."


# ------------------------------------------------------------------------------------------------ secrets


def test_a_redirect_to_another_origin_is_not_followed(tmp_path: Path) -> None:
    with hostile(Answer([json.dumps(COMPLETION).encode()])) as other:
        for status in (301, 302, 303, 307, 308):
            with hostile(Answer([], status, {"location": f"{other.url}/chat/completions"})) as server:
                chat = chat_to(server.url, tmp_path / str(status))
                message = refused(chat)
            assert f"it redirects to {other.url.removesuffix('/v1')}, and nothing is sent there" in message
            [row] = chat.journal.usage()
            assert row.unsure_usd == 0
        assert other.heard == []


def test_a_redirect_within_the_server_is_followed(tmp_path: Path) -> None:
    def respond(_: str, path: str) -> Answer:
        if path.startswith("/v1"):
            return Answer([], 308, {"location": path.replace("/v1", "/v2")})
        return Answer([json.dumps(COMPLETION).encode()])

    with hostile(respond) as server:
        assert chat_to(server.url, tmp_path).answer(["Hello"])[0].text == "Likes crime."
        assert [path for _, path, _ in server.heard] == ["/v1/chat/completions", "/v2/chat/completions"]
        assert server.heard[0][2] == server.heard[1][2]


ECHOES = {
    "plain": KEY,
    "percent": quote(KEY, safe=""),
    "percent, small": quote(KEY, safe="").lower(),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"user:{KEY}\n".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"?{KEY}".encode()).decode(),
    "hex": KEY.encode().hex(),
    "in pieces": f"{KEY[:9]}…{KEY[9:18]}…{KEY[18:]}",
    "masked": f"{KEY[:8]}************{KEY[-4:]}",
    "broken in lines": "\n".join(KEY[at : at + 6] for at in range(0, len(KEY), 6)),
    "all in percent": "".join(f"%{ord(sign):02X}" for sign in KEY),
    "JSON of PHP": KEY.replace("/", "\\/"),
    "JSON, escaped": "".join(f"\\u{ord(sign):04x}" for sign in KEY),
    "HTML": "".join(f"&#{ord(sign)};" for sign in KEY),
}


def shows(text: str) -> bool:
    """Whether a text shows eight characters of the key in a row, however they are written."""
    text = "".join(html.unescape(text).replace("\\/", "/").split())
    text = re.sub(r"\\u([0-9a-f]{4})", lambda sign: chr(int(sign[1], 16)), text)
    text += unquote(text)
    forms = [KEY, quote(KEY, safe=""), KEY.encode().hex()]
    for shift in range(3):
        forms.append(base64.b64encode(b"." * shift + KEY.encode() + b".." * 2).decode()[4:-8])
    sizes = [8, 8, 16, 12, 12, 12]
    return any(
        form[at : at + size].lower() in text.lower()
        for form, size in zip(forms, sizes, strict=True)
        for at in range(len(form) - size + 1)
    )


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_no_error_shows_the_key(
    echo: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", KEY)
    assert shows(ECHOES[echo])
    for body in (json.dumps({"error": {"message": f"Wrong: {ECHOES[echo]}."}}), f"<p>{ECHOES[echo]}</p>"):
        with hostile(Answer([body.encode()], status)) as server:
            chat = chat_to(server.url, tmp_path, key_env="THEIR_KEY", tries=1)
            with pytest.raises(DeeperError) as error:
                chat.answer(["Hello"])
        assert not shows("".join(traceback.format_exception(error.value)))
        assert status == 200 or body.startswith("<") or "$THEIR_KEY" in str(error.value)


@pytest.mark.parametrize("echo", sorted(ECHOES.keys() - {"masked"}))  # which shows what all keys begin with
def test_no_answer_that_shows_the_key_is_kept(
    echo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", KEY)
    completion = {"choices": [{"message": {"content": f"They use {ECHOES[echo]} a lot."}}]}
    with hostile(Answer([json.dumps(completion).encode()])) as server:
        [answer] = chat_to(server.url, tmp_path, key_env="THEIR_KEY").answer(["Hello"])
    assert answer.text is not None
    assert answer.text.startswith("They use ")
    assert "$THEIR_KEY" in answer.text
    assert answer.text.endswith(" a lot.")
    assert not shows(answer.text)
    for file in tmp_path.iterdir():
        assert not shows(file.read_bytes().decode(errors="replace"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("anything", "Reads anything."),
        ("local-key-1234567890-abcdef", "Call 1234567890 for the local-key."),
        ("sk-1----------------", "|-----|----------|"),
        ("e", "Likes three."),
    ],
)
def test_a_key_that_is_a_word_changes_no_answer(
    key: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that want no key are often given such words, and personas use them."""
    monkeypatch.setenv("THEIR_KEY", key)
    completion = {"choices": [{"message": {"content": text}}]}
    with hostile(Answer([json.dumps(completion).encode()])) as server:
        [answer] = chat_to(server.url, tmp_path, key_env="THEIR_KEY").answer(["Hello"])
    assert answer.text == text


def test_a_long_key_of_words_is_kept_in_no_answer() -> None:
    key = "correct-horse-battery-staple-key"
    assert without_key(f"It is {key}.", key, "K", telling=True) == "It is $K."


def test_a_key_in_a_chain_of_errors_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal fails while a refusal that repeats the key is on its way."""
    monkeypatch.setenv("THEIR_KEY", KEY)
    chats: list[OpenAIChat] = []

    def refuse(*_: str) -> Answer:
        with writing(chats[0].journal.path) as db:
            db.execute("DROP TABLE pending")
        return Answer([json.dumps({"error": {"message": f"Wrong: {KEY}."}}).encode()], 401)

    with hostile(refuse) as server:
        chats.append(chat_to(server.url, tmp_path, key_env="THEIR_KEY"))
        with pytest.raises(DeeperError, match="no such table") as error:
            chats[0].answer(["Hello"])
    told = "".join(traceback.format_exception(error.value))
    assert "$THEIR_KEY" in told
    assert not shows(told)


@given(st.text(), st.text(min_size=1))
@settings(max_examples=300)
def test_what_is_no_part_of_a_key_stays(text: str, key: str) -> None:
    kept = scrubbed(text, key, "K")
    bare, dense = "".join(text.split()).lower(), "".join(key.split()).lower()
    if len(dense) >= 8 and all(dense[at : at + 4] not in bare for at in range(len(dense) - 3)):
        assert kept == " ".join(text.split()) or "$K" in kept  # encoded, by chance
    assert len(key) < 8 or any(sign.isspace() for sign in key) or key not in kept


@pytest.mark.parametrize("key", ["sk-Zp8q7mW3\nxT9vLk2R", "sk-Zp8q7mW3xT9 vLk2R", "sk-Zp8q7mW3xT9vLk2Ré"])
@pytest.mark.parametrize("mode", ["live", "batch"])
def test_a_key_that_no_header_can_hold_is_an_error_that_does_not_show_it(
    key: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", key)
    with hostile(Answer([])) as server:
        with pytest.raises(DeeperError, match="THEIR_KEY holds no key") as error:
            chat_to(server.url, tmp_path, key_env="THEIR_KEY", mode=mode).answer(["Hello"])
        assert server.heard == []
    assert "Zp8q7mW3" not in "".join(traceback.format_exception(error.value))


def test_white_space_around_a_key_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENTS_KEY", " right\n")
    with chat_server("--key-env", "SERVERS_KEY", SERVERS_KEY="right") as server:
        assert chat_to(server.url, tmp_path, key_env="CLIENTS_KEY").answer(["Hello"])[0].reason == "no_answer"


# --------------------------------------------------------------------------------------------------- fuzz

NAMES = """choices message content refusal finish_reason usage prompt_tokens completion_tokens error code
id status data errors has_more custom_id response status_code body output_file_id metadata"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NAMES.split()),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BODIES = JSON.map(json.dumps).map(str.encode) | st.binary(max_size=200)
NEARLY = st.builds(
    lambda choice, usage: json.dumps({"choices": [choice], "usage": usage}).encode(),
    st.fixed_dictionaries({"message": st.fixed_dictionaries({"content": JSON})}, optional={"refusal": JSON}),
    st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details"]), JSON),
)
HEADERS = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "text/html", "x"])},
    optional={
        "content-encoding": st.sampled_from(["gzip", "deflate", "br", "zstd", "x"]),
        "content-length": st.sampled_from(["0", "5", "99999"]),
        "location": st.sampled_from(["/v1/x", "http://localhost:9/", "//", "http://[", "file:///etc/passwd"]),
        "retry-after": st.sampled_from(["0", "-1", "x", "nan"]),
    },
)
ANSWERS = st.builds(
    lambda body, status, headers: Answer([body], status, headers),
    BODIES | NEARLY,
    st.just(200) | st.sampled_from([200, 204, 301, 307, 308, 400, 401, 404, 422, 429, 500, 503, 599]),
    HEADERS,
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["live", "batch"])
def test_whatever_an_endpoint_answers_is_an_answer_or_an_error_of_ours(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deeper_assets.engines.chat import failures, pacing

    monkeypatch.setattr(pacing, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(failures, "LONGEST_LIMITED", 0.05)
    homes, before = iter(range(10**9)), memory_of(os.getpid())
    answers: list[Answer] = []

    def respond(*_: str) -> Answer:
        return answers[0] if len(answers) == 1 else answers.pop(0)

    with hostile(respond) as server:

        @given(st.lists(ANSWERS, min_size=1, max_size=5))
        @settings(
            deadline=None,
            max_examples=250,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        def ask(drawn: list[Answer]) -> None:
            answers[:] = drawn
            chat = chat_to(
                server.url, tmp_path / f"{mode}{next(homes)}", mode=mode, batch_poll=0.01, timeout=0.5
            )
            try:
                [answer] = chat.answer(["Hello"])
                assert answer.text is None or isinstance(answer.text, str)
            except DeeperError as error:
                assert server.url in str(error)
            for row in chat.journal.usage():
                assert 0 <= row.cost_usd + row.unsure_usd <= 100 * most_usd(chat) * 10

        ask()
    assert memory_of(os.getpid()) - before < 500
