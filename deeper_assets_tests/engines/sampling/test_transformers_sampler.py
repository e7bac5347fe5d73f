"""The transformers sampler, on a random model of a few thousand weights, against transformers itself."""

import gc
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeper_assets.engines.sampling import transformers_sampler
from deeper_assets.engines.sampling.gpu import alone_on_gpu
from deeper_assets.engines.sampling.policy_tokens import UNWRITTEN
from deeper_assets.engines.sampling.transformers_sampler import ReloadedSampler, TransformersSampler
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy

pytestmark = pytest.mark.filterwarnings(
    "error::FutureWarning",
    "ignore:`is_gradient_checkpointing`:FutureWarning",  # PEFT asks for it
)

GREEDY = Decoding(temperature=0, top_p=1, repetition_penalty=1, max_new_tokens=12)
SAMPLED = Decoding(temperature=1, top_p=0.9, repetition_penalty=1.1, max_new_tokens=12)
PROMPTS = ["who are you ?", "i like films and teas", "you never like the very much", "cakes"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def policy(base: Path) -> TransformersSampler:
    return TransformersSampler("tiny", base, device="cpu")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of random weights, large enough to be heard."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def loaded(base: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)


def ids_of(tokenizer: Any, prompt: str) -> torch.Tensor:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    ids: torch.Tensor = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return ids


def texts(samples: Sequence[Sequence[Sample]]) -> list[list[str]]:
    return [[sample.text for sample in of] for of in samples]


def generated(model: Any, tokenizer: Any, prompt: str, penalty: float = 1.0) -> Sample:
    """What transformers' own greedy generation writes."""
    ids = ids_of(tokenizer, prompt)
    whole = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=GREEDY.max_new_tokens,
        repetition_penalty=penalty,
    )
    new = whole[0, ids.shape[1] :].tolist()
    end = tokenizer.eos_token_id
    length = new.index(end) if end in new else len(new)
    return Sample(tokenizer.decode(new[:length], skip_special_tokens=True), length, end in new)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_what_transformers_generates(
    base: Path, policy: TransformersSampler, penalty: float
) -> None:
    model, tokenizer = loaded(base)
    expected = [generated(model, tokenizer, prompt, penalty) for prompt in PROMPTS]
    decoding = Decoding(0, 1, penalty, GREEDY.max_new_tokens)
    got = policy.sample(PROMPTS, [[number] for number in range(len(PROMPTS))], decoding)
    assert [samples for (samples,) in got] == expected
    assert len({sample.text for sample in expected}) > 2


def test_each_token_is_drawn_from_what_transformers_processors_leave(
    base: Path, policy: TransformersSampler
) -> None:
    """By hand: penalty, temperature and top_p as transformers applies them, then the seed's number picks."""
    from transformers import (
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopPLogitsWarper,
    )

    model, tokenizer = loaded(base)
    decoding = Decoding(temperature=1.7, top_p=0.8, repetition_penalty=1.2, max_new_tokens=8)
    processors = [
        RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty),
        TemperatureLogitsWarper(decoding.temperature),
        TopPLogitsWarper(decoding.top_p),
    ]
    for prompt in PROMPTS:
        for seed in (3, 4):
            ids = ids_of(tokenizer, prompt)
            start = ids.shape[1]
            for draw in np.random.default_rng(seed).random(decoding.max_new_tokens):
                with torch.no_grad():
                    logits = model(ids).logits[:, -1]
                for process in processors:
                    logits = process(ids, logits)
                shares, order = logits.softmax(-1)[0].sort(descending=True, stable=True)
                token = order[int((shares.cumsum(0) <= draw).sum())]
                ids = torch.cat([ids, token.view(1, 1)], 1)
                if token == tokenizer.eos_token_id:
                    break
            new = ids[0, start:].tolist()
            finished = new[-1] == tokenizer.eos_token_id
            text = tokenizer.decode(new, skip_special_tokens=True)
            expected = Sample(text, len(new) - finished, finished)
            assert policy.sample([prompt], [[seed]], decoding) == [[expected]]


def test_top_p_leaves_the_likeliest_that_reach_it_together() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    picked = {
        top_p: {
            int(
                transformers_sampler._draw(
                    logits, torch.tensor([draw], dtype=torch.float64), Decoding(top_p=top_p)
                )
            )
            for draw in np.linspace(0, 0.999, 50)
        }
        for top_p in (0.4, 0.6, 0.85, 1.0)
    }
    assert picked == {0.4: {0}, 0.6: {0, 1}, 0.85: {0, 1, 2}, 1.0: {0, 1, 2, 3}}


def test_looking_at_the_likeliest_first_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(40, 300, generator=torch.Generator().manual_seed(1))
    draws = torch.linspace(0, 0.999, 40, dtype=torch.float64)
    for top_p in (0.05, 0.4, 0.95, 1.0):
        drawn = []
        for likeliest in (1, 64, 300):
            monkeypatch.setattr(transformers_sampler, "LIKELIEST", likeliest)
            drawn.append(transformers_sampler._draw(logits, draws, Decoding(top_p=top_p)).tolist())
        assert drawn[0] == drawn[1] == drawn[2]
        assert len(set(drawn[0])) > 3


def test_texts_that_end_early_are_dropped_without_a_trace(
    policy: TransformersSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, seeds = Decoding(max_new_tokens=40), [list(range(12))] * len(PROMPTS)
    written = []
    for ended_together in (0, 0.2, 1):
        monkeypatch.setattr(transformers_sampler, "ENDED_TOGETHER", ended_together)
        written.append(policy.sample(PROMPTS, seeds, decoding))
    assert written[0] == written[1] == written[2]
    assert len({sample.tokens for samples in written[0] for sample in samples}) > 3


def test_a_text_depends_on_prompt_seed_and_decoding_alone(
    policy: TransformersSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = [[1, 2, 3], [4], [1, 5], [6, 7, 8, 9]]
    together = policy.sample(PROMPTS, seeds, SAMPLED)
    assert [len(of) for of in together] == [3, 1, 2, 4]
    alone = [
        [policy.sample([prompt], [[seed]], SAMPLED)[0][0] for seed in of]
        for prompt, of in zip(PROMPTS, seeds, strict=True)
    ]
    assert together == alone
    backwards = policy.sample(PROMPTS[::-1], [of[::-1] for of in seeds[::-1]], SAMPLED)
    assert [of[::-1] for of in backwards[::-1]] == together
    monkeypatch.setattr(transformers_sampler, "TOKENS_AT_ONCE", 60)  # a few prompts a batch
    assert policy.sample(PROMPTS, seeds, SAMPLED) == together
    assert len({text for of in texts(together) for text in of}) > 5  # seeds and prompts do matter


def test_a_long_decoding_continues_a_short_one(policy: TransformersSampler) -> None:
    long = policy.sample(PROMPTS, [[1]] * 4, SAMPLED)
    short = policy.sample(PROMPTS, [[1]] * 4, Decoding(1, 0.9, 1.1, 3))
    for (one,), (other,) in zip(long, short, strict=True):
        assert one.text.startswith(other.text)


def test_greedy_needs_no_seed_and_says_one_thing(policy: TransformersSampler) -> None:
    got = policy.sample(PROMPTS[:2], [[1, 2, 3], [9]], GREEDY)
    assert [len(of) for of in got] == [3, 1]
    assert len(set(got[0])) == 1
    assert got[1] == policy.sample(PROMPTS[1:2], [[5]], GREEDY)[0]


def test_a_cut_text_is_unfinished(policy: TransformersSampler) -> None:
    ((cut,),) = policy.sample(PROMPTS[:1], [[1]], Decoding(0, 1, 1, 1))
    assert (cut.tokens, cut.finished) == (1, False)
    samples = [s for of in policy.sample(PROMPTS, [range(20)] * 4, Decoding(1, 1, 1, 12)) for s in of]
    finished, unfinished = [s for s in samples if s.finished], [s for s in samples if not s.finished]
    assert finished
    assert unfinished
    assert all(s.tokens == 12 for s in unfinished)
    assert all(s.tokens < 12 and len(s.text.split()) <= s.tokens for s in finished)


def test_an_adapter_speaks_as_peft_has_it(base: Path, adapter: Path, policy: TransformersSampler) -> None:
    from peft import PeftModel

    model, tokenizer = loaded(base)
    unmerged = PeftModel.from_pretrained(model, adapter).eval()
    trained = TransformersSampler("tiny+adapter", base, adapter, "cpu")
    got = [of[0] for of in trained.sample(PROMPTS, [[1]] * 4, GREEDY)]
    assert got == [generated(unmerged, tokenizer, prompt) for prompt in PROMPTS]
    assert got != [of[0] for of in policy.sample(PROMPTS, [[1]] * 4, GREEDY)]
    ids = ids_of(tokenizer, PROMPTS[0])
    with torch.no_grad():
        torch.testing.assert_close(trained._model(ids).logits, unmerged(ids).logits, atol=1e-5, rtol=1e-4)


def test_nothing_asked_nothing_written(policy: TransformersSampler) -> None:
    assert policy.sample([], [], SAMPLED) == []


def test_texts_end_where_the_model_does(base: Path, policy: TransformersSampler) -> None:
    lengths = [ids_of(loaded(base)[1], prompt).shape[1] for prompt in PROMPTS]
    assert len(set(lengths)) > 2
    shorter = TransformersSampler("tiny", base, device="cpu", max_length=max(lengths))
    for decoding in (GREEDY, SAMPLED):
        seeds = [[1, 2, 3]] * len(PROMPTS)
        whole, cut = (one.sample(PROMPTS, seeds, decoding) for one in (policy, shorter))
        for length, long, short in zip(lengths, whole, cut, strict=True):
            room = max(lengths) - length
            assert room or short == [UNWRITTEN] * 3
            for one, other in zip(long, short, strict=True):
                assert other.tokens == min(one.tokens, room)
                assert other.finished == (one.finished and one.tokens < room)
                assert one.text.startswith(other.text)
    assert TransformersSampler("tiny", base, device="cpu", max_length=10_000)._longest == 128


def test_a_policy_that_fills_a_gpu_is_loaded_for_each_call_and_freed(
    policy: TransformersSampler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import LlamaForCausalLM

    def models() -> int:
        gc.collect()
        return sum(type(one) is LlamaForCausalLM for one in gc.get_objects())

    seeds = [[1, 2, 3]] * len(PROMPTS)
    expected, before = policy.sample(PROMPTS, seeds, SAMPLED), models()
    caplog.set_level("INFO", transformers_sampler.logger.name)
    reloaded = ReloadedSampler(policy, tmp_path)
    assert reloaded.name == "tiny"
    for loads in (1, 2):
        assert reloaded.sample(PROMPTS, seeds, SAMPLED) == expected
        assert caplog.text.count("transformers loads tiny") == loads
        assert models() == before
    assert reloaded.sample([], [], SAMPLED) == []
    assert caplog.text.count("transformers loads tiny") == 2


def test_a_policy_that_fills_a_gpu_waits_for_a_training(policy: TransformersSampler, tmp_path: Path) -> None:
    reloaded = ReloadedSampler(policy, tmp_path)
    with ThreadPoolExecutor(1) as beside:
        with alone_on_gpu(tmp_path):
            sampling = beside.submit(lambda: reloaded.sample(PROMPTS[:1], [[1]], GREEDY))
            time.sleep(1)
            assert not sampling.done()
        assert sampling.result(60) == policy.sample(PROMPTS[:1], [[1]], GREEDY)
