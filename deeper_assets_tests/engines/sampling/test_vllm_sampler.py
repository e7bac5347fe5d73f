"""The sampler of vLLM servers, against fake ones that fail in every way."""

import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.engines.http import Bounds
from deeper_assets.engines.sampling import replicas
from deeper_assets.engines.sampling.policy_tokens import UNWRITTEN
from deeper_assets.engines.sampling.vllm_sampler import GivenServers, VllmSampler, content_hash
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.engines.hostile import Answer, hostile
from deeper_assets_tests.engines.tiny_policy import WORDS, save_tiny_policy
from deeper_assets_tests.vllm_cpu.fake_server import SPECIAL, FakeServer, Reply, serving, text_of
from deeper_assets_tests.vllm_cpu.policies import save_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

DECODING = Decoding(temperature=1, top_p=0.4, repetition_penalty=1.1, max_new_tokens=12)
GREEDY = Decoding(temperature=0, top_p=1, repetition_penalty=1.1, max_new_tokens=12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policies") / "tiny")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "one", base, 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a server of a test."""
    monkeypatch.setattr(replicas, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(replicas, "LONGEST_WAIT", 0.1)


@pytest.fixture
def servers(base: Path) -> Iterator[list[FakeServer]]:
    with ExitStack() as running:
        yield [running.enter_context(serving(FakeServer(str(base)))) for _ in range(2)]


def sampler(base: Path, *servers: FakeServer, key_env: str = "VLLM_API_KEY", **more: Any) -> VllmSampler:
    given = GivenServers(tuple(server.url for server in servers), key_env)
    return VllmSampler("policy", str(base), given, **more)


PROMPTS = [f"i like {word}" for word in WORDS[5:11]]
SEEDS = [[1000 * place + number for number in range(15)] for place in range(len(PROMPTS))]
EXPECTED = [[Sample(text_of(seed), 2, True) for seed in of] for of in SEEDS]


def test_texts_come_in_order_whoever_writes_them(base: Path, servers: list[FakeServer]) -> None:
    assert sampler(base, *servers).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    written = Counter(servers[0].written + servers[1].written)
    assert written == Counter(seed for of in SEEDS for seed in of)
    assert all(len(server.written) >= 30 for server in servers)


def test_what_is_asked_is_tokens_and_every_value_of_decoding(base: Path, servers: list[FakeServer]) -> None:
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


def test_greedy_is_asked_once_a_prompt(base: Path, servers: list[FakeServer]) -> None:
    got = sampler(base, *servers).sample(PROMPTS, SEEDS, GREEDY)
    assert got == [[of[0]] * 15 for of in EXPECTED]
    assert len(servers[0].written + servers[1].written) == len(PROMPTS)


def test_a_text_is_cut_where_the_model_ends_and_not_asked_for_without_room(
    base: Path, servers: list[FakeServer]
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


def test_no_more_at_once_than_allowed(base: Path, servers: list[FakeServer]) -> None:
    for server in servers:
        server.pause = 0.1
    sampler(base, *servers, concurrency=3).sample(PROMPTS, SEEDS, DECODING)
    most = [server.most for server in servers]
    assert max(most) == 3, "who is free decides, so the other may have had fewer"
    assert min(most) > 0


def test_a_prompt_stays_with_the_server_that_has_read_it(base: Path, servers: list[FakeServer]) -> None:
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
def test_what_fails_for_a_moment_is_asked_again(base: Path, servers: list[FakeServer]) -> None:
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
    base: Path, servers: list[FakeServer], fault: Reply
) -> None:
    servers[0].fault = lambda path, body: fault if path == "/v1/completions" else None
    assert sampler(base, *servers).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    assert servers[0].written == []


@pytest.mark.usefixtures("quick")
def test_a_server_that_was_never_there_is_not_needed(base: Path, servers: list[FakeServer]) -> None:
    nobody = FakeServer(str(base), url="http://127.0.0.1:9/v1")
    assert sampler(base, nobody, servers[0]).sample(PROMPTS, SEEDS, DECODING) == EXPECTED


@pytest.mark.usefixtures("quick")
def test_when_nobody_answers_any_more_that_is_said(base: Path, servers: list[FakeServer]) -> None:
    for server in servers:
        server.fault = lambda path, body: (503, "gone") if body.get("seed", 0) > 4000 else None
    with pytest.raises(DeeperError, match=r"no vLLM server gives an answer \(http://127.*: .*503") as error:
        sampler(base, *servers).sample(PROMPTS, SEEDS, DECODING)
    assert all(server.url in str(error.value) for server in servers)
    assert len(str(error.value).splitlines()) == 1


def test_an_adapter_is_loaded_into_every_server_once(
    base: Path, adapter: Path, servers: list[FakeServer]
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
    base: Path, adapter: Path, servers: list[FakeServer]
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
    base: Path, adapter: Path, servers: list[FakeServer]
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
    "404 in a path": ((500, {"error": {"message": "no room for /runs/404"}}), r"--max-lora-rank"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_why_an_adapter_cannot_be_loaded_is_said_at_once(
    base: Path, adapter: Path, servers: list[FakeServer], refused: tuple[Reply, str]
) -> None:
    reply, message = refused
    servers[1].fault = lambda path, body: reply if path == "/v1/load_lora_adapter" else None
    with pytest.raises(DeeperError, match=message):
        sampler(base, *servers, adapter=adapter).sample(PROMPTS, SEEDS, DECODING)


def test_the_key_comes_from_the_environment_and_is_never_said(
    base: Path, servers: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers[0].key = "right-key"
    monkeypatch.setenv("OUR_KEY", "right-key")
    policy = sampler(base, servers[0], key_env="OUR_KEY")
    assert policy.sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    monkeypatch.setenv("OUR_KEY", "wrong-key")
    with pytest.raises(DeeperError, match=r"refuses: .*401.*environment variable OUR_KEY") as error:
        policy.sample(PROMPTS, SEEDS, DECODING)
    assert "wrong-key" not in "".join(traceback.format_exception(error.value))


def test_another_model_is_refused(base: Path, servers: list[FakeServer]) -> None:
    servers[0].base = "meta-llama/Llama-3.1-8B-Instruct"
    with pytest.raises(DeeperError, match=r"serves meta-llama/.* but the policy is .*tiny; start it with"):
        sampler(base, servers[0]).sample(PROMPTS, SEEDS, DECODING)
    servers[0].base = "/elsewhere/tiny"
    assert sampler(base, servers[0]).sample(PROMPTS, SEEDS, DECODING) == EXPECTED


def test_mistakes_in_the_urls_are_named(base: Path, servers: list[FakeServer]) -> None:
    servers[0].fault = lambda path, body: (404, {"detail": "Not Found"})
    servers[0].url = servers[0].url.removesuffix("/v1")
    with pytest.raises(DeeperError, match=r"the urls of vLLM servers end in /v1"):
        sampler(base, servers[0]).sample(PROMPTS, SEEDS, DECODING)
    assert sampler(base, servers[0]).sample([], [], DECODING) == []


def test_a_request_that_is_refused_is_not_asked_again(base: Path, servers: list[FakeServer]) -> None:
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


def written(tokens: Any, reason: Any = "stop") -> dict[str, Any]:
    return {"choices": [{"finish_reason": reason, "token_ids": tokens}]}


UNREADABLE = [
    "<html>",
    "[]",
    {"choices": "x"},
    {"choices": []},
    {"choices": [{}, {}]},
    written("x"),
    written([-1]),
    written([2**40]),
    written([float("nan")]),
    written([6] * 13, "length"),
    written([6], 7),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer", UNREADABLE, ids=str)
def test_a_text_of_another_shape_is_asked_for_again_and_then_an_error(
    answer: Any, base: Path, servers: list[FakeServer]
) -> None:
    def first_fails(path: str, body: Mapping[str, Any]) -> Reply | None:
        return (200, answer) if path == "/v1/completions" else None

    bad, good = servers
    bad.fault = first_fails
    assert sampler(base, bad, good).sample(PROMPTS, SEEDS, DECODING) == EXPECTED
    with pytest.raises(DeeperError, match=r"no vLLM server gives an answer \(http.*(shape|tokens, and 12)"):
        sampler(base, bad).sample(PROMPTS[:1], [[1]], DECODING)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("cards", ["x", {}, {"data": [5]}, {"data": [{"id": 5}]}], ids=str)
def test_cards_of_another_shape_are_an_error_that_shows_them(
    cards: Any, base: Path, servers: list[FakeServer]
) -> None:
    servers[0].fault = lambda path, body: (200, cards) if path == "/v1/models" else None
    with pytest.raises(DeeperError, match="an answer of another shape"):
        sampler(base, servers[0]).sample(PROMPTS[:1], [[1]], DECODING)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["trickles", "is endless", "redirects"])
def test_a_server_without_bounds_is_left(
    kind: str, base: Path, servers: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "BOUNDS", Bounds(1.0, 100_000))
    monkeypatch.setattr(replicas, "TRIES", 2)
    [other, *_] = servers

    def trickle() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.05)

    def respond(*_: str) -> Answer:
        if kind == "redirects":
            return Answer([], 307, {"location": f"{other.url}/completions"})
        return Answer(trickle() if kind == "trickles" else [b" " * 1000] * 1_000_000)

    reasons = {
        "trickles": "no whole answer within 1 s",
        "is endless": "an answer of more than 100,000 bytes",
        "redirects": "it redirects to http://127.0.0.1:[0-9]+, and nothing is sent there",
    }
    with hostile(respond) as server:
        given = GivenServers((server.url,))
        with pytest.raises(DeeperError, match=reasons[kind]):
            VllmSampler("policy", str(base), given).sample(PROMPTS[:1], [[1]], DECODING)
    assert other.asked == []
