"""The sampler of vLLM servers: against servers that fail in every way, and against vLLM's own."""

import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.engines.sampling import vllm_server
from deeper_assets.engines.sampling.policy_tokens import UNWRITTEN
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import content_hash
from deeper_assets.engines.sampling.vllm_server import VllmServerSampler
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.engines.tiny_policy import WORDS, save_tiny_policy
from deeper_assets_tests.vllm_cpu.policies import save_adapter
from deeper_assets_tests.vllm_cpu.servers import VllmServer, vllm_servers

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

DECODING = Decoding(temperature=1, top_p=0.4, repetition_penalty=1.1, max_new_tokens=12)
GREEDY = Decoding(temperature=0, top_p=1, repetition_penalty=1.1, max_new_tokens=12)
SPECIAL = 5
"""Tokens of the tiny tokenizer before its words."""

Reply = tuple[int, Any]
"""A status and what is said; status 0 drops the connection."""


@dataclass
class Server:
    """Speaks vLLM's protocol, writes two words that the seed decides, and remembers who asked what.

    Attributes:
        base: what it serves.
        fault: what to say to a request in place of an answer, by what is asked; None to answer.
        key: the key it wants.
        max_length: of prompt and text.
        adapters: names of those it has loaded.
        asked: the bodies of all requests for texts.
        written: the seeds of texts it wrote.
        most: texts it was at, at most, at once.
    """

    base: str
    fault: Callable[[str, Mapping[str, Any]], Reply | None] = lambda path, body: None
    key: str | None = None
    max_length: int = 64
    adapters: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    url: str = ""
    most: int = 0
    at_once: int = 0
    pause: float = 0.005
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any], key: str) -> Reply:
        if self.key is not None and key != f"Bearer {self.key}":
            return 401, {"error": f"Unauthorized: {key}"}  # some servers do repeat it
        if (fault := self.fault(path, body)) is not None:
            return fault
        if path == "/v1/models":
            own = {"id": self.base, "root": self.base, "parent": None, "max_model_len": self.max_length}
            loras = [{"id": name, "root": "/x", "parent": self.base} for name in sorted(self.adapters)]
            return 200, {"object": "list", "data": [own, *loras]}
        if path == "/v1/load_lora_adapter":
            self.adapters.add(body["lora_name"])
            return 200, "Success"
        if body["model"] not in {self.base, *self.adapters}:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        return 200, self.write(body)

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self.pause)
        with self.lock:
            self.at_once -= 1
            self.written.append(body["seed"])
        room, end = body["max_tokens"], 2
        tokens = [*words_of(body["seed"]), end][:room]
        reason = "stop" if tokens[-1] == end else "length"
        choice = {"index": 0, "text": "not looked at", "finish_reason": reason, "token_ids": tokens}
        return {"id": "1", "object": "text_completion", "created": 1, "model": "x", "choices": [choice]}


def words_of(seed: int) -> list[int]:
    return [SPECIAL + seed % len(WORDS), SPECIAL + seed // len(WORDS) % len(WORDS)]


def text_of(seed: int) -> str:
    return " ".join(WORDS[token - SPECIAL] for token in words_of(seed))


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/completions":
                server.asked.append(body)
            self.reply(body)

        def reply(self, body: dict[str, Any]) -> None:
            status, said = server.answer(self.path, body, self.headers.get("Authorization", ""))
            if not status:
                self.close_connection = True
                return
            content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            kind = "text/plain" if isinstance(said, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        request_queue_size = 256

    listener = Listener(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}/v1"
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policies") / "tiny")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "one", base, 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a server of a test."""
    monkeypatch.setattr(vllm_server, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(vllm_server, "LONGEST_WAIT", 0.1)


@pytest.fixture
def servers(base: Path) -> Iterator[list[Server]]:
    with ExitStack() as running:
        yield [running.enter_context(serving(Server(str(base)))) for _ in range(2)]


def sampler(base: Path, *servers: Server, **more: Any) -> VllmServerSampler:
    return VllmServerSampler("policy", str(base), tuple(server.url for server in servers), **more)


PROMPTS = [f"i like {word}" for word in WORDS[5:11]]
SEEDS = [[1000 * place + number for number in range(15)] for place in range(len(PROMPTS))]
EXPECTED = [[Sample(text_of(seed), 2, True) for seed in of] for of in SEEDS]


def test_texts_come_in_order_whoever_writes_them(base: Path, servers: list[Server]) -> None:
    assert sampler(base, *servers).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    written = Counter(servers[0].written + servers[1].written)
    assert written == Counter(seed for of in SEEDS for seed in of)
    assert all(len(server.written) >= 30 for server in servers)


def test_what_is_asked_is_tokens_and_every_value_of_decoding(base: Path, servers: list[Server]) -> None:
    sampler(base, servers[0]).sample(["i like tea films"], [[2**62]], DECODING)
    (asked,) = servers[0].asked
    user, assistant, unknown, end = 3, 4, 1, 2
    words = [SPECIAL + WORDS.index(word) for word in ("i", "like")]
    assert asked == {
        "model": str(base),
        "prompt": [user, *words, unknown, SPECIAL + WORDS.index("films"), end, assistant],
        "seed": 2**62,
        "max_tokens": 12,
        "temperature": 1,
        "top_p": 0.4,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.1,
        "return_token_ids": True,
    }


def test_greedy_is_asked_once_a_prompt(base: Path, servers: list[Server]) -> None:
    got = sampler(base, *servers).sample(PROMPTS, SEEDS, GREEDY)
    assert got == [[of[0]] * 15 for of in EXPECTED]
    assert len(servers[0].written + servers[1].written) == len(PROMPTS)


def test_a_text_is_cut_where_the_model_ends_and_not_asked_for_without_room(
    base: Path, servers: list[Server]
) -> None:
    servers[0].max_length = 8  # the template adds three tokens
    prompts = ["a a a a a", "a a a a", "a a", "a"]
    got = sampler(base, servers[0]).sample(prompts, [[7], [7], [7], [7]], DECODING)
    first = text_of(7).split()[0]
    whole = Sample(text_of(7), 2, True)
    assert got == [[UNWRITTEN], [Sample(first, 1, False)], [whole], [whole]]
    assert [asked["max_tokens"] for asked in sorted(servers[0].asked, key=lambda a: a["max_tokens"])] == [
        1,
        3,
        4,
    ]


def test_no_more_at_once_than_allowed(base: Path, servers: list[Server]) -> None:
    for server in servers:
        server.pause = 0.1
    sampler(base, *servers, concurrency=3).sample(PROMPTS, SEEDS, DECODING)
    most = [server.most for server in servers]
    assert max(most) == 3, "who is free decides, so the other may have had fewer"
    assert min(most) > 0


def test_a_prompt_stays_with_the_server_that_has_read_it(base: Path, servers: list[Server]) -> None:
    sampler(base, *servers, concurrency=30).sample(PROMPTS[:4], SEEDS[:4], DECODING)
    assert set(servers[0].written) == {*SEEDS[0], *SEEDS[2]}
    assert set(servers[1].written) == {*SEEDS[1], *SEEDS[3]}


FAULTS: dict[str, Reply] = {
    "too many": (429, {"error": {"message": "slow down"}}),
    "broken": (500, {"error": {"message": "EngineDeadError"}}),
    "away": (503, "no upstream"),
    "dropped": (0, ""),
    "not JSON": (502, "<html>"),
}


@pytest.mark.usefixtures("quick")
def test_what_fails_for_a_moment_is_asked_again(base: Path, servers: list[Server]) -> None:
    """Every text fails once in one of five ways at whichever server it comes to first."""
    failed: set[int] = set()
    faults = list(FAULTS.values())

    def fault(path: str, body: Mapping[str, Any]) -> Reply | None:
        seed = body.get("seed", -1)
        if path != "/v1/completions" or seed in failed:
            return None
        failed.add(seed)
        return faults[seed % len(faults)]

    for server in servers:
        server.fault = fault
    assert sampler(base, *servers, concurrency=8).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    written = Counter(servers[0].written + servers[1].written)
    assert set(written.values()) == {1}
    assert len(failed) == 15 * len(PROMPTS)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_others_do_what_a_server_that_fails_for_good_cannot(
    base: Path, servers: list[Server], fault: Reply
) -> None:
    servers[0].fault = lambda path, body: fault if path == "/v1/completions" else None
    assert sampler(base, *servers).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    assert servers[0].written == []


@pytest.mark.usefixtures("quick")
def test_a_server_that_was_never_there_is_not_needed(base: Path, servers: list[Server]) -> None:
    nobody = Server(str(base), url="http://127.0.0.1:9/v1")
    assert sampler(base, nobody, servers[0]).sample(PROMPTS, SEEDS, DECODING) == EXPECTED


@pytest.mark.usefixtures("quick")
def test_when_nobody_answers_any_more_that_is_said(base: Path, servers: list[Server]) -> None:
    for server in servers:
        server.fault = lambda path, body: (503, "gone") if body.get("seed", 0) > 4000 else None
    with pytest.raises(DeeperError, match=r"no vLLM server gives an answer \(http://127.*: .*503") as said:
        sampler(base, *servers).sample(PROMPTS, SEEDS, DECODING)
    assert all(server.url in str(said.value) for server in servers)
    assert len(str(said.value).splitlines()) == 1


def test_an_adapter_is_loaded_into_every_server_once(
    base: Path, adapter: Path, servers: list[Server]
) -> None:
    loads: list[Mapping[str, Any]] = []

    def remember(path: str, body: Mapping[str, Any]) -> Reply | None:
        if path == "/v1/load_lora_adapter":
            loads.append(body)
        return None

    for server in servers:
        server.fault = remember
    policy = sampler(base, *servers, adapter=adapter)
    for _ in range(2):
        assert policy.sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    name = content_hash(adapter)
    assert loads == [{"lora_name": name, "lora_path": str(adapter)}] * 2
    assert [server.adapters for server in servers] == [{name}, {name}]
    assert {asked["model"] for server in servers for asked in server.asked} == {name}


@pytest.mark.usefixtures("quick")
def test_a_server_that_was_restarted_gets_its_adapter_again(
    base: Path, adapter: Path, servers: list[Server]
) -> None:
    server, forgot = servers[0], []

    def forget_once(path: str, body: Mapping[str, Any]) -> Reply | None:
        if body.get("seed") == 4003 and not forgot:
            forgot.append(True)
            server.adapters.clear()
        return None

    server.fault = forget_once
    assert sampler(base, server, adapter=adapter, concurrency=2).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    assert forgot == [True]


def test_an_adapter_that_another_process_has_just_loaded_is_there(
    base: Path, adapter: Path, servers: list[Server]
) -> None:
    name = content_hash(adapter)

    def loaded_meanwhile(path: str, body: Mapping[str, Any]) -> Reply | None:
        if path != "/v1/load_lora_adapter":
            return None
        servers[0].adapters.add(name)
        return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}

    servers[0].fault = loaded_meanwhile
    assert sampler(base, servers[0], adapter=adapter).sample(PROMPTS, SEEDS, DECODING) == EXPECTED


REFUSED: dict[str, tuple[Reply, str]] = {
    "no such route": ((404, {"detail": "Not Found"}), r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
    "no such folder": (
        (404, {"error": {"message": "No adapter found for 'x': /y", "code": 404}}),
        r"must be able to read that folder, under the same path",
    ),
    "does not fit": ((500, {"error": {"message": "LoRA rank 16 is greater"}}), r"rank 16.*--max-lora-rank"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_why_an_adapter_cannot_be_loaded_is_said_at_once(
    base: Path, adapter: Path, servers: list[Server], refused: tuple[Reply, str]
) -> None:
    reply, said = refused
    servers[1].fault = lambda path, body: reply if path == "/v1/load_lora_adapter" else None
    with pytest.raises(DeeperError, match=said):
        sampler(base, *servers, adapter=adapter).sample(PROMPTS, SEEDS, DECODING)


def test_the_key_comes_from_the_environment_and_is_never_said(
    base: Path, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers[0].key = "right-key"
    monkeypatch.setenv("OUR_KEY", "right-key")
    policy = sampler(base, servers[0], key_env="OUR_KEY")
    assert policy.sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    monkeypatch.setenv("OUR_KEY", "wrong-key")
    with pytest.raises(DeeperError, match=r"refuses: .*401.*environment variable OUR_KEY") as said:
        policy.sample(PROMPTS, SEEDS, DECODING)
    assert "wrong-key" not in "".join(traceback.format_exception(said.value))


def test_another_model_is_refused(base: Path, servers: list[Server]) -> None:
    servers[0].base = "meta-llama/Llama-3.1-8B-Instruct"
    with pytest.raises(DeeperError, match=r"serves meta-llama/.* but the policy is .*tiny; start it with"):
        sampler(base, servers[0]).sample(PROMPTS, SEEDS, DECODING)
    servers[0].base = "/elsewhere/tiny"
    assert sampler(base, servers[0]).sample(PROMPTS, SEEDS, DECODING) == EXPECTED


def test_mistakes_in_the_urls_are_named(base: Path, servers: list[Server]) -> None:
    with pytest.raises(DeeperError, match=r"sampler\.urls is empty"):
        VllmServerSampler("x", str(base), ()).sample(PROMPTS, SEEDS, DECODING)
    servers[0].fault = lambda path, body: (404, {"detail": "Not Found"})
    root = servers[0].url.removesuffix("/v1")
    with pytest.raises(DeeperError, match=r"the urls of vLLM servers end in /v1"):
        VllmServerSampler("x", str(base), (root,)).sample(PROMPTS, SEEDS, DECODING)
    assert VllmServerSampler("x", str(base), (root,)).sample([], [], DECODING) == []


def test_a_request_that_is_refused_is_not_asked_again(base: Path, servers: list[Server]) -> None:
    asked = []

    def refuse(path: str, body: Mapping[str, Any]) -> Reply | None:
        if path == "/v1/completions":
            asked.append(body["seed"])
            return 400, {"error": {"message": "temperature must be non-negative"}}
        return None

    servers[0].fault = refuse
    with pytest.raises(DeeperError, match=r"refuses: Error code: 400 - temperature must be"):
        sampler(base, servers[0], concurrency=1).sample(PROMPTS, SEEDS, DECODING)
    assert asked == [0]


# ---------------------------------------------------------------------------------------- vLLM's own servers

PAPER = Decoding(temperature=1, top_p=0.4, repetition_penalty=1.1, max_new_tokens=96)
LIKELIEST = Decoding(temperature=0, top_p=1, repetition_penalty=1.1, max_new_tokens=96)


@pytest.fixture(scope="module")
def replicas(
    vllm_python: str, wide_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[VllmServer]]:
    """Two of them; the last test ends one."""
    with vllm_servers(vllm_python, 2, wide_policy, tmp_path_factory.mktemp("logs")) as servers:
        yield servers


def at(replicas: list[VllmServer], policy: Path, adapter: Path | None = None) -> VllmServerSampler:
    return VllmServerSampler("served", str(policy), tuple(one.url for one in replicas), adapter)


@pytest.mark.slow
def test_served_texts_are_what_transformers_writes_token_by_token(
    replicas: list[VllmServer], wide_policy: Path, adapters: list[Path], prompts: list[str]
) -> None:
    """The base, one adapter, another, and the first again, as the transformers sampler has them."""
    few, seeds = prompts[:20], [[1, 2]] * 20
    written = []
    for adapter in (None, adapters[0], adapters[1], adapters[0]):
        expected = TransformersSampler("here", wide_policy, adapter, "cpu").sample(few, seeds, LIKELIEST)
        assert at(replicas, wide_policy, adapter).sample(few, seeds, LIKELIEST) == expected
        written.append(expected)
    assert len({of[0][0].text for of in written}) == 3


@pytest.mark.slow
def test_an_adapter_that_does_not_fit_is_said(
    replicas: list[VllmServer], wide_policy: Path, tmp_path: Path, prompts: list[str]
) -> None:
    high = save_adapter(tmp_path / "high", wide_policy, 1, rank=32)
    with pytest.raises(DeeperError, match=r"LoRA rank 32 is greater.*--max-lora-rank that is high enough"):
        at(replicas, wide_policy, high).sample(prompts[:1], [[1]], LIKELIEST)


@pytest.mark.slow
def test_a_replica_that_is_killed_costs_no_text(
    replicas: list[VllmServer], wide_policy: Path, prompts: list[str]
) -> None:
    """Fifteen candidates a prompt, twice the same but for the kill: a text is its seed's, whoever writes."""
    prompts = prompts[:40]
    seeds = [[1000 * place + number for number in range(15)] for place in range(len(prompts))]
    policy, first = at(replicas, wide_policy), replicas[0]
    undisturbed = policy.sample(prompts, seeds, PAPER)
    before = first.written()
    came: list[list[list[Sample]]] = []
    sampling = threading.Thread(target=lambda: came.append(policy.sample(prompts, seeds, PAPER)))
    sampling.start()
    while first.written() < before + 50:
        time.sleep(0.01)
    first.kill()
    assert came == []
    sampling.join(timeout=300)
    assert came == [undisturbed]
    assert replicas[1].answers
    assert not first.answers
    assert len({sample.text for of in undisturbed for sample in of}) > 400
