"""Fixtures of the engines' tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets_tests.chat_server.process import ChatServer, chat_server
from deeper_assets_tests.vllm_cpu import STAND_IN, stand_in_variables
from deeper_assets_tests.vllm_cpu.policies import refinement_prompts, save_adapter


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter of an environment with vLLM; tests that need it are skipped where there is none."""
    given = os.environ.get("DEEPER_TEST_VLLM")
    if not given:
        pytest.skip("DEEPER_TEST_VLLM names no interpreter: see deeper_assets_tests/vllm_cpu/setup.sh")
    return given


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A fake stands in for vLLM here and in processes that are started; what it gives sets its variables."""
    monkeypatch.syspath_prepend(STAND_IN)
    for name, value in stand_in_variables().items():
        monkeypatch.setenv(name, value)
    return monkeypatch.setenv


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters on the tiny policy."""
    folder = tmp_path_factory.mktemp("adapters")
    return [save_adapter(folder / f"adapter-{seed}", SHIPPED, seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """Refinement prompts, as contexts hold them."""
    return refinement_prompts()


@pytest.fixture(scope="module")
def steady() -> Iterator[ChatServer]:
    """A server that injects no faults."""
    with chat_server() as server:
        yield server


@pytest.fixture
def server(steady: ChatServer) -> ChatServer:
    """The same, which has forgotten what it was asked before."""
    steady.reset()
    return steady
