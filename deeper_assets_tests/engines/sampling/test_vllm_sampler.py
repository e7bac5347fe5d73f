"""vLLM in its own environment, in process, against the transformers sampler of this one."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from deeper_assets.engines.sampling.policy_tokens import UNWRITTEN, encode, load_tokenizer, room_for
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import EngineOptions, VllmSampler, content_hash
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.vllm_cpu.job import Done, Step, run_elsewhere

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

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
def done(
    vllm_python: str,
    wide_policy: Path,
    adapters: list[Path],
    prompts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Done]:
    """Every step, in one process of vLLM's environment."""
    one, two = map(str, adapters)
    few, own = prompts[:10], seeds(prompts)

    def step(prompts: list[str], seeds: list[list[int]], decoding: Decoding, **more: object) -> Step:
        return Step("vllm", str(wide_policy), prompts, seeds, decoding, **more)  # type: ignore[arg-type]

    steps = {
        "greedy": step(prompts, own, GREEDY),
        "plain": step(prompts, own, PLAIN),
        "sampled": step(prompts, own, PAPER),
        "otherwise": step(prompts[::-3], [of[::-1] for of in own[::-3]], PAPER),
        "beginnings": step(few[:1], [list(range(DRAWS))], BEGINNINGS[0]),
        "other beginnings": step(few[:1], [list(range(DRAWS))], BEGINNINGS[1]),
        "without caching": step(prompts, own, GREEDY, options={"prefix_caching": False}),
        "short": step(prompts, own, GREEDY, options={"max_length": SHORT}),
        "one merged": step(few, own[:10], GREEDY, adapter=one),
        "two merged": step(few, own[:10], GREEDY, adapter=two),
        "one beside": step(few, own[:10], GREEDY, adapter=one, merges=False),
        "one beside, sampled": step(few, own[:10], PAPER, adapter=one, merges=False),
        "two beside": step(few, own[:10], GREEDY, adapter=two, merges=False),
        "one beside again": step(few, own[:10], GREEDY, adapter=one, merges=False),
    }
    came = run_elsewhere(vllm_python, list(steps.values()), tmp_path_factory.mktemp("job"))
    return dict(zip(steps, came, strict=True))


def by_transformers(
    base: Path, prompts: list[str], decoding: Decoding, adapter: Path | None = None
) -> list[list[Sample]]:
    return TransformersSampler("here", base, adapter, "cpu").sample(prompts, seeds(prompts), decoding)


def test_greedy_is_what_transformers_writes_token_by_token(
    done: dict[str, Done], wide_policy: Path, prompts: list[str]
) -> None:
    for name, decoding in (("greedy", GREEDY), ("plain", PLAIN)):
        expected = by_transformers(wide_policy, prompts, decoding)
        assert done[name].samples == expected
        assert {len(of) for of in expected} == {15}
        assert len({of[0].text for of in expected}) > 60
    assert done["greedy"].samples != done["plain"].samples


def test_heads_made_wider_change_nothing(wide_policy: Path, prompts: list[str]) -> None:
    """What is sampled here in vLLM's stead of the shipped policy is that policy."""
    from deeper_assets.engines.offline.base_policy import SHIPPED

    assert by_transformers(wide_policy, prompts, GREEDY) == by_transformers(SHIPPED, prompts, GREEDY)


def test_fifteen_candidates_differ_and_come_to_an_end(done: dict[str, Done], prompts: list[str]) -> None:
    samples = done["sampled"].samples
    assert [len(of) for of in samples] == [15] * len(prompts)
    assert all(len({sample.text for sample in of}) > 10 for of in samples)
    assert all(sample.finished and 5 < sample.tokens < 96 for of in samples for sample in of)


def test_a_text_is_a_function_of_prompt_and_seed(done: dict[str, Done]) -> None:
    samples = done["sampled"].samples
    assert done["otherwise"].samples == [of[::-1] for of in samples[::-3]]


@pytest.mark.parametrize("name, decoding", zip(["beginnings", "other beginnings"], BEGINNINGS, strict=True))
def test_tokens_are_drawn_from_what_transformers_processors_leave(
    done: dict[str, Done], wide_policy: Path, prompts: list[str], name: str, decoding: Decoding
) -> None:
    """Of a thousand texts, as many begin in each way as is probable, within five standard deviations."""
    counts = Counter(sample.text for sample in done[name].samples[0])
    probable = beginnings(wide_policy, prompts[0], decoding)
    assert sum(probable.values()) == pytest.approx(1)
    assert len(probable) > 10
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
    found = {tuple(ids): 1.0}
    for _ in range(decoding.max_new_tokens):
        longer = {}
        for before, probability in found.items():
            seen = torch.tensor([before])
            with torch.no_grad():
                logits = model(seen).logits[:, -1]
            for process in processors:
                logits = process(seen, logits)
            shares = logits.softmax(-1)[0]
            for token in shares.nonzero().flatten().tolist():
                longer[(*before, token)] = probability * float(shares[token])
        found = longer
    return {tokenizer.decode(text[len(ids) :]): probability for text, probability in found.items()}


def test_prefix_caching_changes_no_text(done: dict[str, Done]) -> None:
    assert done["without caching"].samples == done["greedy"].samples
    assert done["without caching"].engine != done["greedy"].engine


@pytest.mark.parametrize("how", ["merged", "beside"])
def test_adapters_after_each_other_each_speak_for_themselves(
    done: dict[str, Done], wide_policy: Path, adapters: list[Path], prompts: list[str], how: str
) -> None:
    few = prompts[:10]
    one, two = (by_transformers(wide_policy, few, GREEDY, adapter) for adapter in adapters)
    assert done[f"one {how}"].samples == one
    assert done[f"two {how}"].samples == two
    base = done["greedy"].samples[:10]
    assert all(len({a[0], b[0], c[0]}) == 3 for a, b, c in zip(base, one, two, strict=True))


def test_an_adapter_that_comes_again_is_the_same(done: dict[str, Done]) -> None:
    assert done["one beside again"].samples == done["one beside"].samples
    assert len({sample.text for of in done["one beside, sampled"].samples for sample in of}) > 100


def test_an_engine_stays_loaded_until_another_is_needed(done: dict[str, Done]) -> None:
    base = ["greedy", "plain", "sampled", "otherwise", "beginnings", "other beginnings"]
    beside = [name for name in done if "beside" in name]
    assert len({done[name].engine for name in base}) == 1
    assert len({done[name].engine for name in beside}) == 1
    assert done["two merged"].engine != done["one merged"].engine


def test_texts_end_where_the_model_does(done: dict[str, Done], wide_policy: Path, prompts: list[str]) -> None:
    lengths = [len(ids) for ids in encode(load_tokenizer(str(wide_policy)), prompts)]
    assert min(lengths) < SHORT < max(lengths)
    for length, of, whole in zip(lengths, done["short"].samples, done["greedy"].samples, strict=True):
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


def test_without_vllm_the_way_out_is_named(wide_policy: Path) -> None:
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(DeeperError, match=r"install the extra `gpu`, or set sampler\.engine"):
            VllmSampler("x", str(wide_policy), None, EngineOptions()).sample(["hello"], [[1]], GREEDY)
    else:
        pytest.skip("vLLM is installed here")
