"""The host of policies, in real processes, with the tiny policy; with vLLM in its own environment."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.engines.sampling import policy_host
from deeper_assets.engines.sampling.policy_host import ADDRESS, LOG, HostedSampler, alone_on_gpu, dismiss
from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.sampling.vllm_sampler import VllmSampler
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding

pytestmark = pytest.mark.slow

DECODING = Decoding(max_new_tokens=40)
POLICY = TransformersSampler("base-tiny", SHIPPED, None, "cpu")
PATIENCE = 60
"""Seconds that anything here may take."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Of a host, which is gone after the test. Deeper than the path of a socket may be."""
    found = tmp_path / ("deep" * 30) / "gpu"
    yield found
    for process in processes(found):
        process.kill()


def processes(folder: Path) -> list[psutil.Process]:
    """The hosts that are there."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in (process.info["cmdline"] or []) and policy_host.__name__ in process.info["cmdline"]
    ]


def log(folder: Path) -> list[str]:
    return (folder / LOG).read_text().splitlines() if (folder / LOG).exists() else []


def said(folder: Path, what: str) -> int:
    return sum(what in line for line in log(folder))


def until(folder: Path, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not said(folder, what):
        assert time.monotonic() < deadline, log(folder)
        time.sleep(0.05)


def hosted(folder: Path, sampler: object = POLICY, keep_loaded: float = PATIENCE) -> HostedSampler:
    return HostedSampler(sampler, folder, keep_loaded)  # type: ignore[arg-type]


def job(prompts: int) -> tuple[list[str], list[list[int]], Decoding]:
    texts = [f"Who reads number {number}?" for number in range(prompts)]
    return texts, [[100 * place + number for number in range(15)] for place in range(prompts)], DECODING


def client(folder: Path, prompts: int) -> "subprocess.Popen[bytes]":
    """Another process that samples."""
    code = (
        "import sys; from pathlib import Path;"
        "from deeper_assets_tests.engines.sampling import test_policy_host as t;"
        "t.hosted(Path(sys.argv[1])).sample(*t.job(int(sys.argv[2])))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(prompts)])


def test_what_is_loaded_stays_for_other_processes(folder: Path) -> None:
    for _ in range(2):
        assert client(folder, 3).wait(PATIENCE) == 0
    assert hosted(folder).sample(*job(5)) == POLICY.sample(*job(5))
    assert said(folder, "loads") == 1
    assert said(folder, "sampled") == 3


def test_another_policy_takes_the_place_of_the_first(
    folder: Path, adapters: list[Path], wide_policy: Path
) -> None:
    for adapter in adapters:
        sampler = TransformersSampler(adapter.name, wide_policy, adapter, "cpu")
        assert hosted(folder, sampler).sample(*job(2)) == sampler.sample(*job(2))
    assert said(folder, "loads") == 2
    assert len(processes(folder)) == 1


def test_who_comes_at_once_shares_one_host(folder: Path) -> None:
    with ThreadPoolExecutor(6) as several:
        found = list(several.map(lambda prompts: hosted(folder).sample(*job(prompts)), range(1, 7)))
    assert [len(of) for of in found] == [1, 2, 3, 4, 5, 6]
    assert said(folder, "loads") == 1


def test_what_goes_wrong_goes_wrong_for_the_client(folder: Path) -> None:
    with pytest.raises(DeeperError, match="vLLM cannot be imported here"):
        hosted(folder, VllmSampler("base", str(SHIPPED))).sample(*job(1))
    with pytest.raises(DeeperError, match=r"^OSError: .* \(the traceback is in .*/gpu/log\)$"):
        hosted(folder, TransformersSampler("none", folder / "no such model")).sample(*job(1))
    assert len(hosted(folder).sample(*job(1))[0]) == 15
    assert len(processes(folder)) == 1
    assert said(folder, "leaves: something went wrong") == 2


def test_a_host_leaves_when_nobody_comes(folder: Path) -> None:
    hosted(folder, keep_loaded=1).sample(*job(1))
    until(folder, "nobody came for 1 s")
    assert not Path((folder / ADDRESS).read_text()).parent.exists()
    assert hosted(folder).sample(*job(1)) == POLICY.sample(*job(1))
    assert said(folder, "loads") == 2


def test_a_host_whose_starter_was_killed_does_not_wait_for_long(folder: Path) -> None:
    lock = policy_host._take_lock(folder)
    assert lock is not None
    policy_host._start(folder, PATIENCE, lock)
    os.close(lock)
    until(folder, f"nobody came for {policy_host.AT_FIRST:g} s")
    with alone_on_gpu(folder):
        assert processes(folder) == []


def test_nothing_to_write_needs_no_host(folder: Path) -> None:
    assert hosted(folder).sample([], [], DECODING) == []
    assert not folder.exists()


def test_a_host_that_is_killed_is_said_and_replaced(folder: Path) -> None:
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(lambda: hosted(folder).sample(*job(5000)))
        until(folder, "samples 75000 texts")
        left = Path((folder / ADDRESS).read_text()).parent
        (process,) = processes(folder)
        process.kill()
        with pytest.raises(DeeperError, match="was killed while it sampled; memory may have run"):
            asked.result(PATIENCE)
    assert hosted(folder).sample(*job(1)) == POLICY.sample(*job(1))
    assert not left.exists()


def test_a_host_that_cannot_be_started_leaves_the_gpu_free(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileNotFoundError, match="/no/such/python"):
        hosted(folder).sample(*job(1))
    monkeypatch.undo()
    after = client(folder, 1)
    try:
        assert after.wait(PATIENCE) == 0
    finally:
        after.kill()


@pytest.mark.parametrize("address", ["", "{home}/socket", "{home}/none"], ids=["empty", "socket", "none"])
def test_an_address_that_is_none_costs_no_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    home = tmp_path / "home"
    for path in (home, folder):
        path.mkdir(parents=True)
    for name in ("socket", "kept"):
        (home / name).touch()
    (folder / ADDRESS).write_text(address.format(home=home))
    monkeypatch.chdir(home)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert hosted(folder).sample(*job(1)) == POLICY.sample(*job(1))
    assert (home / "kept").exists()


def test_a_client_that_is_killed_takes_its_host_along_and_whoever_waited_goes_on(folder: Path) -> None:
    killed = client(folder, 5000)
    until(folder, "loads")
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(lambda: hosted(folder).sample(*job(2)))
        time.sleep(0.5)
        killed.kill()
        killed.wait()
        assert waiting.result(PATIENCE) == POLICY.sample(*job(2))
    assert said(folder, "its client is gone") == 1
    assert said(folder, "loads") == 2


def test_a_training_is_alone_after_what_is_being_sampled(folder: Path) -> None:
    with ThreadPoolExecutor(2) as beside:
        before = beside.submit(lambda: hosted(folder).sample(*job(100)))
        until(folder, "samples 1500 texts")
        with alone_on_gpu(folder):
            assert len(before.result(0)) == 100
            assert processes(folder) == []
            after = beside.submit(lambda: hosted(folder).sample(*job(2)))
            time.sleep(1.5)
            assert not after.done()
            assert said(folder, "samples") == 1
        assert after.result(PATIENCE) == POLICY.sample(*job(2))
    assert said(folder, "it was sent away") == 1


def test_a_training_comes_before_those_behind_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hosts_and_samplings() -> tuple[int, int]:
        with alone_on_gpu(folder):
            return len(processes(folder)), said(folder, "samples")

    with ThreadPoolExecutor(2) as beside:
        before = beside.submit(lambda: hosted(folder).sample(*job(500)))
        until(folder, "samples 7500 texts")
        monkeypatch.setattr(policy_host, "PAUSE", 5)  # so that anybody who looks for a free GPU is faster
        training = beside.submit(hosts_and_samplings)
        time.sleep(0.5)
        behind = client(folder, 1)
        assert training.result(PATIENCE) == (0, 1)
        assert before.done()
    assert behind.wait(PATIENCE) == 0


def test_trainings_wait_for_each_other(folder: Path) -> None:
    ended: list[str] = []

    def train() -> None:
        with alone_on_gpu(folder):
            ended.append("second")

    with ThreadPoolExecutor(1) as beside:
        with alone_on_gpu(folder):
            second = beside.submit(train)
            time.sleep(1)
            ended.append("first")
        second.result(PATIENCE)
    assert ended == ["first", "second"]


def test_only_an_idle_host_is_dismissed(folder: Path) -> None:
    dismiss(folder)
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(lambda: hosted(folder).sample(*job(500)))
        until(folder, "samples 7500 texts")
        dismiss(folder)
        assert len(asked.result(PATIENCE)) == 500
    assert len(processes(folder)) == 1
    dismiss(folder)
    until(folder, "it was sent away")


def test_vllm_is_loaded_once_for_clients_that_come_and_go(
    vllm_python: str, folder: Path, wide_policy: Path, adapters: list[Path], prompts: list[str]
) -> None:
    code = """
import sys
from pathlib import Path
from deeper_assets.engines.sampling.policy_host import HostedSampler
from deeper_assets.method.protocols import Decoding
from deeper_assets.engines.sampling.vllm_sampler import VllmSampler
folder, base, *prompts = sys.argv[1:]
sampler = HostedSampler(VllmSampler("tiny", base), Path(folder), 60)
written = sampler.sample(prompts, [[1, 2]] * len(prompts), Decoding(temperature=0, max_new_tokens=96))
print("\\n".join(of[1].text for of in written))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}
    greedy = Decoding(temperature=0, max_new_tokens=96)
    for few in (prompts[:3], prompts[3:7]):
        done = subprocess.run(
            [vllm_python, "-c", code, str(folder), str(wide_policy), *few],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        expected = TransformersSampler("here", wide_policy, None, "cpu").sample(
            few, [[1, 2]] * len(few), greedy
        )
        assert done.stdout.splitlines() == [of[1].text for of in expected]
    assert said(folder, "vLLM loads") == 1
    assert said(folder, "sampled") == 2
