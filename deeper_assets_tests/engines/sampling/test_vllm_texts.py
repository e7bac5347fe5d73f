"""The texts of vLLM itself: of a home's own server and of given ones, against the transformers sampler."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling.gpu import LOG, alone_on_gpu, dismiss, kept_server
from deeper_assets.engines.sampling.policy_tokens import UNWRITTEN, encode, load_tokenizer, room_for
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import GivenServers, VllmSampler, content_hash
from deeper_assets.engines.sampling.vllm_server import OwnServer, ServerOptions
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.vllm_cpu import STAND_IN, stand_in_variables
from deeper_assets_tests.vllm_cpu.policies import save_adapter
from deeper_assets_tests.vllm_cpu.servers import VllmServer, vllm_servers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # vLLM takes its time to start, several times
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PAPER = Decoding(temperature=1, top_p=0.4, repetition_penalty=1.1, max_new_tokens=96)
GREEDY = Decoding(temperature=0, top_p=1, repetition_penalty=1.1, max_new_tokens=96)
PLAIN = Decoding(temperature=0, top_p=1, repetition_penalty=1, max_new_tokens=96)
BEGINNINGS = [
    Decoding(temperature=1, top_p=0.4, repetition_penalty=1.1, max_new_tokens=6),
    Decoding(temperature=1.5, top_p=0.8, repetition_penalty=1.3, max_new_tokens=4),
]
DRAWS = 1000
SHORT = 54
"""A length that some prompts reach."""


def seeds(prompts: Sequence[str], n: int = 15) -> list[list[int]]:
    """Seeds of 63 bits, as candidates have them."""
    return [[2**62 + 1000 * place + number for number in range(n)] for place in range(len(prompts))]


@pytest.fixture(scope="module")
def gpu(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of a server, which is vLLM's in its own environment."""
    folder = tmp_path_factory.mktemp("home") / "gpu"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STAND_IN)
        for name, value in stand_in_variables(vllm_python).items():
            patch.setenv(name, value)
        yield folder
        dismiss(folder)


def own(folder: Path, base: Path, adapter: Path | None = None, **options: int) -> VllmSampler:
    return VllmSampler("tiny", str(base), OwnServer(folder, ServerOptions(**options), 600), adapter)


@pytest.fixture(scope="module")
def done(gpu: Path, adapters: list[Path], prompts: list[str]) -> dict[str, list[list[Sample]]]:
    """What was written in each of many calls, those with other options last."""
    one, two = adapters
    few, seeds_of = prompts[:10], seeds(prompts)
    written = {}

    def write(
        name: str,
        prompts: list[str],
        seeds: list[list[int]],
        decoding: Decoding,
        adapter: Path | None = None,
        **options: int,
    ) -> None:
        written[name] = own(gpu, SHIPPED, adapter, **options).sample(prompts, seeds, decoding)

    write("greedy", prompts, seeds_of, GREEDY)
    write("plain", prompts, seeds_of, PLAIN)
    write("sampled", prompts, seeds_of, PAPER)
    write("otherwise", prompts[::-3], [of[::-1] for of in seeds_of[::-3]], PAPER)
    write("beginnings", few[:1], [list(range(DRAWS))], BEGINNINGS[0])
    write("other beginnings", few[:1], [list(range(DRAWS))], BEGINNINGS[1])
    write("one", few, seeds_of[:10], GREEDY, one)
    write("one, sampled", few, seeds_of[:10], PAPER, one)
    write("two", few, seeds_of[:10], GREEDY, two)
    write("one again", few, seeds_of[:10], GREEDY, one)
    assert (gpu / LOG).read_text().count("starts vLLM") == 1
    write("without caching", prompts, seeds_of, GREEDY, prefix_caching=False)
    write("short", prompts, seeds_of, GREEDY, max_length=SHORT)
    assert (gpu / LOG).read_text().count("starts vLLM") == 3
    return written


def by_transformers(
    base: Path, prompts: list[str], decoding: Decoding, adapter: Path | None = None
) -> list[list[Sample]]:
    return TransformersSampler("here", base, adapter, "cpu").sample(prompts, seeds(prompts), decoding)


def test_greedy_is_what_transformers_writes_token_by_token(
    done: dict[str, list[list[Sample]]], prompts: list[str]
) -> None:
    for name, decoding in (("greedy", GREEDY), ("plain", PLAIN)):
        expected = by_transformers(SHIPPED, prompts, decoding)
        assert done[name] == expected
        assert {len(of) for of in expected} == {15}
        assert len({of[0].text for of in expected}) > 60
    assert done["greedy"] != done["plain"]


def test_fifteen_candidates_differ_and_come_to_an_end(
    done: dict[str, list[list[Sample]]], prompts: list[str]
) -> None:
    samples = done["sampled"]
    assert [len(of) for of in samples] == [15] * len(prompts)
    assert all(len({sample.text for sample in of}) > 10 for of in samples)
    assert all(sample.finished and 5 < sample.tokens < 96 for of in samples for sample in of)


def test_a_text_is_a_function_of_prompt_and_seed(done: dict[str, list[list[Sample]]]) -> None:
    samples = done["sampled"]
    assert done["otherwise"] == [of[::-1] for of in samples[::-3]]


@pytest.mark.parametrize("name, decoding", zip(["beginnings", "other beginnings"], BEGINNINGS, strict=True))
def test_tokens_are_drawn_from_what_transformers_processors_leave(
    done: dict[str, list[list[Sample]]], prompts: list[str], name: str, decoding: Decoding
) -> None:
    """Of a thousand texts, as many begin in each way as is probable, within five standard deviations."""
    counts = Counter(sample.text for sample in done[name][0])
    probable = beginnings(SHIPPED, prompts[0], decoding)
    assert sum(probable.values()) == pytest.approx(1)
    assert len(probable) > 5
    assert set(counts) <= set(probable)
    for text, probability in probable.items():
        deviation = (DRAWS * probability * (1 - probability)) ** 0.5
        assert counts[text] == pytest.approx(DRAWS * probability, abs=5 * deviation + 1)


def beginnings(base: Path, prompt: str, decoding: Decoding) -> dict[str, float]:
    """Every text of so many tokens that can be drawn, and how probable it is, by transformers' processors."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopPLogitsWarper,
    )

    tokenizer, model = load_tokenizer(str(base)), AutoModelForCausalLM.from_pretrained(base)
    processors = [
        RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty)),
        TemperatureLogitsWarper(float(decoding.temperature)),
        TopPLogitsWarper(decoding.top_p),
    ]
    (ids,) = encode(tokenizer, [prompt])
    reached = {tuple(ids): 1.0}
    for _ in range(decoding.max_new_tokens):
        longer = {}
        for before, probability in reached.items():
            seen = torch.tensor([before])
            with torch.no_grad():
                logits = model(seen).logits[:, -1]
            for process in processors:
                logits = process(seen, logits)
            shares = logits.softmax(-1)[0]
            for token in shares.nonzero().flatten().tolist():
                longer[(*before, token)] = probability * float(shares[token])
        reached = longer
    return {tokenizer.decode(text[len(ids) :]): probability for text, probability in reached.items()}


def test_prefix_caching_changes_no_text(done: dict[str, list[list[Sample]]]) -> None:
    assert done["without caching"] == done["greedy"]


def test_adapters_after_each_other_each_speak_for_themselves(
    done: dict[str, list[list[Sample]]], adapters: list[Path], prompts: list[str]
) -> None:
    few = prompts[:10]
    one, two = (by_transformers(SHIPPED, few, GREEDY, adapter) for adapter in adapters)
    assert done["one"] == one
    assert done["two"] == two
    base = done["greedy"][:10]
    assert all(len({a[0], b[0], c[0]}) == 3 for a, b, c in zip(base, one, two, strict=True))


def test_an_adapter_that_comes_again_is_the_same(done: dict[str, list[list[Sample]]]) -> None:
    assert done["one again"] == done["one"]
    assert len({sample.text for of in done["one, sampled"] for sample in of}) > 100


def test_texts_end_where_the_model_does(done: dict[str, list[list[Sample]]], prompts: list[str]) -> None:
    lengths = [len(ids) for ids in encode(load_tokenizer(str(SHIPPED)), prompts)]
    assert min(lengths) < SHORT < max(lengths)
    for length, of, whole in zip(lengths, done["short"], done["greedy"], strict=True):
        if length >= SHORT:
            assert of == [UNWRITTEN] * 15
        else:
            assert [(sample.tokens, sample.finished) for sample in of] == [(SHORT - length, False)] * 15
            assert whole[0].text.startswith(of[0].text)


def test_a_prompt_without_room_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert room_for([[0] * 8, [0] * 9, [0] * 10, [0] * 30], 10, 4) == [2, 1, 0, 0]
    assert "2 of 4 prompts have 10 tokens or more" in caplog.text
    assert "sampler.max_length" in caplog.text
    caplog.clear()
    assert room_for([[0] * 8], 100, 4) == [4]
    assert caplog.text == ""


def test_an_adapter_is_known_by_what_is_in_it(adapters: list[Path], tmp_path: Path) -> None:
    one, two = map(content_hash, adapters)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in adapters[0].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert one != two
    assert content_hash(copy) == one
    config = copy / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 5'))
    assert content_hash(copy) != one


def test_a_server_that_is_killed_costs_no_text(gpu: Path, prompts: list[str]) -> None:
    """It is started again; a training then finds none of its processes."""
    few, own_seeds = prompts[:40], seeds(prompts[:40])
    policy = own(gpu, SHIPPED)
    undisturbed = policy.sample(few, own_seeds, PAPER)
    starts = (gpu / LOG).read_text().count("starts vLLM")
    came: list[list[list[Sample]]] = []
    sampling = threading.Thread(target=lambda: came.append(policy.sample(few, own_seeds, PAPER)))
    sampling.start()
    time.sleep(2)
    server = kept_server(gpu)
    assert server is not None
    psutil.Process(server.keeper).children()[0].kill()
    assert came == []
    sampling.join(timeout=300)
    assert came == [undisturbed]
    assert (gpu / LOG).read_text().count("starts vLLM") == starts + 1
    processes = psutil.Process(server.keeper).children(recursive=True)
    assert len(processes) > 3
    with alone_on_gpu(gpu):
        assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.fixture(scope="module")
def replicas(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VllmServer]]:
    """Two of them; the last test ends one."""
    with vllm_servers(vllm_python, 2, SHIPPED, tmp_path_factory.mktemp("logs")) as servers:
        yield servers


def at(replicas: list[VllmServer], policy: Path, adapter: Path | None = None) -> VllmSampler:
    return VllmSampler("served", str(policy), GivenServers(tuple(one.url for one in replicas)), adapter)


def test_served_texts_are_what_transformers_writes_token_by_token(
    replicas: list[VllmServer], adapters: list[Path], prompts: list[str]
) -> None:
    """The base, one adapter, another, and the first again, as the transformers sampler has them."""
    few, seeds = prompts[:20], [[1, 2]] * 20
    written = []
    for adapter in (None, adapters[0], adapters[1], adapters[0]):
        expected = TransformersSampler("here", SHIPPED, adapter, "cpu").sample(few, seeds, GREEDY)
        assert at(replicas, SHIPPED, adapter).sample(few, seeds, GREEDY) == expected
        written.append(expected)
    assert len({of[0][0].text for of in written}) == 3


def test_an_adapter_that_does_not_fit_is_said(
    replicas: list[VllmServer], tmp_path: Path, prompts: list[str]
) -> None:
    high = save_adapter(tmp_path / "high", SHIPPED, 1, rank=32)
    with pytest.raises(DeeperError, match=r"LoRA rank 32 is greater.*--max-lora-rank that is high enough"):
        at(replicas, SHIPPED, high).sample(prompts[:1], [[1]], GREEDY)


def test_a_replica_that_is_killed_costs_no_text(replicas: list[VllmServer], prompts: list[str]) -> None:
    """Fifteen candidates a prompt, twice the same but for the kill: a text is its seed's, whoever writes."""
    prompts = prompts[:40]
    seeds = [[1000 * place + number for number in range(15)] for place in range(len(prompts))]
    policy, first = at(replicas, SHIPPED), replicas[0]
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
