"""What an experiment makes of its settings: which sampler a policy gets, and under what name."""

from pathlib import Path

import pytest

from deeper_assets import resources
from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling.policy_host import HostedSampler
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import EngineOptions, VllmSampler
from deeper_assets.engines.sampling.vllm_server import VllmServerSampler
from deeper_assets.resources import Experiment
from deeper_assets.settings import load_settings
from deeper_assets.store.adapters import as_rows, identity

BASE = as_rows(SHIPPED)


def experiment(home: Path, **flags: object) -> Experiment:
    return Experiment(home, load_settings(home, flags))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_policy_has_one_name_whichever_engine_writes(tmp_path: Path, adapter: Path) -> None:
    rows = as_rows(adapter)
    for engine in ("auto", "transformers", "vllm", "vllm_server"):
        of = experiment(tmp_path, sampler={"engine": engine})
        assert of.sampler(BASE).name == f"base-{identity(BASE)}"
        assert of.sampler(BASE, rows).name == f"base-{identity(BASE)}+{identity(rows)}"


def test_settings_reach_vllm(tmp_path: Path, adapter: Path) -> None:
    rows = as_rows(adapter)
    given = {"tensor_parallel": 2, "memory_share": 0.5, "prefix_caching": False, "max_length": 99}
    hosted = experiment(
        tmp_path, sampler={"engine": "vllm", "dtype": "float16", "keep_loaded": 7, **given}
    ).sampler(BASE, rows)
    assert isinstance(hosted, HostedSampler)
    assert (hosted.folder, hosted.keep_loaded) == (tmp_path / "gpu", 7)
    sampler = hosted.sampler
    assert isinstance(sampler, VllmSampler)
    assert sampler.base == str(tmp_path / "models" / identity(BASE))
    assert sampler.adapter == tmp_path / "models" / identity(rows)
    assert sampler.options == EngineOptions(2, 0.5, False, 99, "float16")


def test_settings_reach_vllm_servers(tmp_path: Path) -> None:
    given = {"urls": ["http://a/v1", "http://b/v1"], "key_env": "OUR_KEY", "concurrency": 7}
    sampler = experiment(tmp_path, sampler={"engine": "vllm_server", **given}).sampler(BASE)
    folder = str(tmp_path / "models" / identity(BASE))
    assert sampler == VllmServerSampler(
        f"base-{identity(BASE)}", folder, ("http://a/v1", "http://b/v1"), None, "OUR_KEY", 7
    )


@pytest.mark.parametrize(
    "policy, vllm_and_gpu, engine",
    [
        ("offline", True, "transformers"),
        ("meta-llama/Llama-3.1-8B-Instruct", True, "vllm"),
        ("meta-llama/Llama-3.1-8B-Instruct", False, "transformers"),
    ],
)
def test_auto_is_vllm_where_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, vllm_and_gpu: bool, engine: str
) -> None:
    monkeypatch.setattr(resources, "usable", lambda: vllm_and_gpu)
    assert experiment(tmp_path, policy=policy).sampler_engine == engine


@pytest.mark.parametrize(
    "policy, engine, hosted, alone",
    [
        ("offline", "auto", False, False),
        ("offline", "vllm", True, True),
        ("some/model", "auto", True, True),
        ("some/model", "transformers", True, True),
        ("some/model", "vllm_server", False, True),
    ],
)
def test_what_fills_a_gpu_is_loaded_by_the_host_and_trained_alone(
    tmp_path: Path, policy: str, engine: str, hosted: bool, alone: bool
) -> None:
    of = experiment(tmp_path, policy=policy, sampler={"engine": engine})
    assert isinstance(of.sampler(BASE), HostedSampler) == hosted
    with of.alone_on_gpu():
        assert (tmp_path / "gpu" / "lock").exists() == alone


def test_the_tiny_policy_stays_loaded_in_the_process(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    sampler = of.sampler(BASE)
    assert isinstance(sampler, TransformersSampler)
    assert of.sampler(BASE) is sampler
