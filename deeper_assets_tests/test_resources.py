"""What an experiment makes of its settings: which sampler a policy gets, and under what name."""

from pathlib import Path

import pytest

from deeper_assets import resources
from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling.remembered import RememberedSampler
from deeper_assets.engines.sampling.transformers_sampler import ReloadedSampler, TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import GivenServers, VllmSampler
from deeper_assets.engines.sampling.vllm_server import OwnServer, ServerOptions
from deeper_assets.layers import load_settings
from deeper_assets.resources import Experiment, base_policy_rows
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
    for engine in ("auto", "transformers", "vllm"):
        of = experiment(tmp_path, sampler={"engine": engine})
        assert of.sampler(BASE).name == f"base-{identity(BASE)}"
        assert of.sampler(BASE, rows).name == f"base-{identity(BASE)}+{identity(rows)}"


def test_settings_reach_the_server_that_a_home_starts(tmp_path: Path, adapter: Path) -> None:
    rows = as_rows(adapter)
    given = {"tensor_parallel": 2, "memory_share": 0.5, "prefix_caching": False, "max_length": 99}
    sampler = experiment(
        tmp_path,
        sampler={"engine": "vllm", "dtype": "float16", "keep_loaded": 7, "concurrency": 5, **given},
        training={"lora_rank": 4},
    ).sampler(BASE, rows)
    assert isinstance(sampler, RememberedSampler)
    assert sampler.about == {"engine": "vllm", "max_length": 99, "dtype": "float16", "base": []}
    assert sampler.folder == tmp_path / "texts"
    assert sampler.sampler == VllmSampler(
        f"base-{identity(BASE)}+{identity(rows)}",
        str(tmp_path / "models" / identity(BASE)),
        OwnServer(tmp_path / "gpu", ServerOptions(2, 0.5, False, 99, "float16", 4), 7),
        tmp_path / "models" / identity(rows),
        5,
    )


@pytest.mark.parametrize("engine", ["auto", "vllm"])
def test_settings_reach_given_servers(tmp_path: Path, engine: str) -> None:
    given = {"urls": ["http://a/v1", "http://b/v1"], "key_env": "OUR_KEY", "concurrency": 7}
    sampler = experiment(tmp_path, sampler={"engine": engine, **given}).sampler(BASE)
    folder = str(tmp_path / "models" / identity(BASE))
    servers = GivenServers(("http://a/v1", "http://b/v1"), "OUR_KEY")
    assert isinstance(sampler, RememberedSampler)
    assert sampler.sampler == VllmSampler(f"base-{identity(BASE)}", folder, servers, None, 7)


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
    assert experiment(tmp_path, policy=policy).engine == engine


@pytest.mark.parametrize(
    "policy, engine, urls, fills, alone",
    [
        ("offline", "auto", [], False, False),
        ("offline", "vllm", [], True, True),
        ("some/model", "auto", [], True, True),
        ("some/model", "transformers", [], True, True),
        ("some/model", "transformers", ["http://a/v1"], True, True),
        ("some/model", "vllm", ["http://a/v1"], False, True),
        ("some/model", "auto", ["http://a/v1"], False, True),
    ],
)
def test_what_fills_a_gpu_takes_turns_and_is_trained_alone(
    tmp_path: Path, policy: str, engine: str, urls: list[str], fills: bool, alone: bool
) -> None:
    of = experiment(tmp_path, policy=policy, sampler={"engine": engine, "urls": urls})
    assert of.fills_gpu == fills
    with of.alone_on_gpu():
        assert (tmp_path / "gpu" / "lock").exists() == alone


def test_a_policy_of_ones_own_is_not_kept_by_transformers(tmp_path: Path) -> None:
    of = experiment(tmp_path, policy="some/model", sampler={"engine": "transformers", "max_length": 9})
    folder = str(tmp_path / "models" / identity(BASE))
    sampler = of.sampler(BASE)
    assert isinstance(sampler, RememberedSampler)
    assert sampler.sampler == ReloadedSampler(
        TransformersSampler(f"base-{identity(BASE)}", folder, max_length=9), tmp_path / "gpu"
    )


def test_texts_are_remembered_of_a_base_that_can_be_told_from_others(tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    of = experiment(tmp_path, policy=str(folder), sampler={"engine": "transformers"})
    before = of.sampler(base_policy_rows(str(folder)))
    (folder / "model.safetensors").write_bytes(b"others, of that name")
    after = of.sampler(base_policy_rows(str(folder)))
    assert isinstance(before, RememberedSampler) and isinstance(after, RememberedSampler)
    assert before.name == after.name
    assert before.about != after.about
    on_the_hub = of.sampler(base_policy_rows("some/model"))  # another revision has the same name
    assert isinstance(on_the_hub, ReloadedSampler)


def test_the_tiny_policy_stays_loaded_in_the_process(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    first, second = of.sampler(BASE), of.sampler(BASE)
    assert isinstance(first, RememberedSampler) and isinstance(second, RememberedSampler)
    assert isinstance(first.sampler, TransformersSampler)
    assert first.sampler is second.sampler
