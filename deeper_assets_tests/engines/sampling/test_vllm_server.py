"""The life of a home's own vLLM server, in real processes; the server itself is a fake that speaks HTTP."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deeper_assets.engines.sampling import gpu, replicas, server_keeper
from deeper_assets.engines.sampling.gpu import alone_on_gpu, dismiss, kept_server
from deeper_assets.engines.sampling.vllm_sampler import VllmSampler
from deeper_assets.engines.sampling.vllm_server import OwnServer, ServerOptions
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding, Sample
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy
from deeper_assets_tests.vllm_cpu.fake_server import text_of
from deeper_assets_tests.vllm_cpu.policies import save_adapter

pytestmark = pytest.mark.slow

PATIENCE = 60
"""Seconds that anything here may take."""

Vary = Callable[[str, str], None]
"""Sets a variable of the stand-in for vLLM."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policies") / "tiny")


@pytest.fixture
def folder(tmp_path: Path, fake_vllm: Vary, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a server, which is gone after the test."""
    monkeypatch.setattr(replicas, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(replicas, "LONGEST_WAIT", 0.2)
    place = tmp_path / "gpu"
    yield place
    for process in family(place):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def family(folder: Path) -> list[psutil.Process]:
    """The keeper, the server and its child, the shell that watches; none where there is no keeper."""
    keepers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {str(folder), server_keeper.__name__} <= set(process.info["cmdline"] or [])
    ]
    return [*keepers, *(child for keeper in keepers for child in keeper.children(recursive=True))]


def server_of(folder: Path) -> psutil.Process:
    keeper, *others = family(folder)
    (server,) = (one for one in others if one.ppid() == keeper.pid)
    return server


def live(processes: list[psutil.Process]) -> bool:
    """Whether one of them is there, be it only until it is seen that its parent is gone."""
    return any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def log(folder: Path) -> str:
    return (folder / gpu.LOG).read_text() if (folder / gpu.LOG).exists() else ""


def until(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, log(folder)
        time.sleep(0.05)


def own(
    folder: Path, base: Path, adapter: Path | None = None, keep_loaded: float = PATIENCE, rank: int = 8
) -> VllmSampler:
    return VllmSampler(
        "tiny", str(base), OwnServer(folder, ServerOptions(lora_rank=rank), keep_loaded), adapter
    )


def job(prompts: int) -> tuple[list[str], list[list[int]], Decoding]:
    seeds = [[100 * place + number for number in range(15)] for place in range(prompts)]
    return ["i like films"] * prompts, seeds, Decoding(max_new_tokens=12)


def expected(prompts: int) -> list[list[Sample]]:
    return [[Sample(text_of(seed), 2, True) for seed in of] for of in job(prompts)[1]]


def client(
    folder: Path, base: Path, prompts: int, stays: float = 0, **variables: str
) -> "subprocess.Popen[bytes]":
    """Another process that samples, says so, and stays for some seconds."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from deeper_assets_tests.engines.sampling import test_vllm_server as t;"
        "folder, base, prompts, stays = sys.argv[1:];"
        "samples = t.own(Path(folder), Path(base)).sample(*t.job(int(prompts)));"
        "assert samples == t.expected(int(prompts)); print('written', flush=True); time.sleep(float(stays))"
    )
    command = [sys.executable, "-c", code, str(folder), str(base), str(prompts), str(stays)]
    return subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE)


def test_a_server_stays_for_other_processes(folder: Path, base: Path) -> None:
    for _ in range(2):
        assert client(folder, base, 3).wait(PATIENCE) == 0
    assert own(folder, base).sample(*job(5)) == expected(5)
    assert log(folder).count("starts vLLM") == 1


def test_who_comes_at_once_shares_one_server(folder: Path, base: Path) -> None:
    with ThreadPoolExecutor(6) as several:
        samples = list(several.map(lambda prompts: own(folder, base).sample(*job(prompts)), range(1, 7)))
    assert samples == [expected(prompts) for prompts in range(1, 7)]
    assert log(folder).count("starts vLLM") == 1


def test_adapters_share_a_server_as_long_as_they_fit(folder: Path, base: Path, tmp_path: Path) -> None:
    low, high = (save_adapter(tmp_path / str(rank), base, 1, rank) for rank in (4, 9))
    for adapter, starts in ((None, 1), (low, 1), (high, 2), (high, 2)):
        assert own(folder, base, adapter).sample(*job(2)) == expected(2)
        assert log(folder).count("starts vLLM") == starts
    assert log(folder).count("leaves: it was sent away") == 1
    assert len([one for one in family(folder) if server_keeper.__name__ in one.cmdline()]) == 1


def test_another_base_waits_until_nobody_samples_from_the_first(
    folder: Path, base: Path, tmp_path: Path, fake_vllm: Vary
) -> None:
    fake_vllm("STAND_IN_WRITES", "0.5")
    other = save_tiny_policy(tmp_path / "other", seed=1)
    with ThreadPoolExecutor(1) as beside:
        first = beside.submit(lambda: own(folder, base).sample(*job(20)))
        until(lambda: "vLLM answers" in log(folder), folder)
        assert own(folder, other).sample(*job(1)) == expected(1)
        assert first.done()
        assert first.result() == expected(20)


def test_why_a_server_cannot_be_started_goes_to_the_client(folder: Path, base: Path) -> None:
    class Elsewhere(ServerOptions):
        def arguments(self, *given: object) -> list[str]:
            return ["--model", str(folder / "none")]

    broken = VllmSampler("x", str(base), OwnServer(folder, Elsewhere(), PATIENCE))
    with pytest.raises(DeeperError, match=r"vLLM has ended; why is in .*/gpu/log\. Settings that matter"):
        broken.sample(*job(1))
    assert "ValueError: no model in" in log(folder)
    assert log(folder).count("starts vLLM") == 1, "it would end of the same again"
    assert own(folder, base).sample(*job(1)) == expected(1)


def test_without_vllm_the_way_out_is_named(folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(DeeperError, match=r"install the extra `gpu`, or set sampler\.urls"):
            own(folder, base).sample(*job(1))
    else:
        pytest.skip("vLLM is installed here")


def test_a_server_ends_when_nobody_comes(folder: Path, base: Path) -> None:
    assert own(folder, base, keep_loaded=1).sample(*job(1)) == expected(1)
    processes = family(folder)
    assert len(processes) == 5
    until(lambda: "leaves: nobody came for 1 s" in log(folder), folder)
    until(lambda: not live(processes), folder)
    assert own(folder, base, keep_loaded=1).sample(*job(1)) == expected(1)
    assert log(folder).count("starts vLLM") == 2


def test_a_server_stays_while_somebody_samples(folder: Path, base: Path, fake_vllm: Vary) -> None:
    fake_vllm("STAND_IN_WRITES", "0.5")
    assert own(folder, base, keep_loaded=1).sample(*job(25)) == expected(25)
    assert log(folder).count("starts vLLM") == 1


def test_nothing_to_write_needs_no_server(folder: Path, base: Path) -> None:
    assert own(folder, base).sample([], [], Decoding()) == []
    assert not folder.exists()


def test_a_key_keeps_others_out(folder: Path, base: Path) -> None:
    own(folder, base).sample(*job(1))
    assert stat.S_IMODE((folder / gpu.SERVER).stat().st_mode) == 0o600
    server = kept_server(folder)
    assert server is not None
    assert len(server.key) == 64


def test_a_server_that_dies_is_started_again_once(
    folder: Path, base: Path, tmp_path: Path, fake_vllm: Vary
) -> None:
    """And is given its adapter again; who samples does not notice. A server that dies again is given up."""
    fake_vllm("STAND_IN_WRITES", "0.5")
    adapter = save_adapter(tmp_path / "adapter", base, 1)
    with ThreadPoolExecutor(1) as beside:
        sampling = beside.submit(lambda: own(folder, base, adapter).sample(*job(25)))
        until(lambda: "vLLM answers" in log(folder), folder)
        time.sleep(1)
        first = family(folder)[1:]
        server_of(folder).kill()
        assert sampling.result(PATIENCE) == expected(25)
        assert log(folder).count("starts vLLM") == 2
        until(lambda: not live(first), folder)
        sampling = beside.submit(lambda: own(folder, base).sample(*job(25)))
        time.sleep(1)
        server_of(folder).kill()
        with pytest.raises(DeeperError, match="vLLM has ended; why is in"):
            sampling.result(PATIENCE)
    assert log(folder).count("starts vLLM") == 2
    assert log(folder).count("vLLM has died (exit code -9)") == 2
    assert own(folder, base).sample(*job(1)) == expected(1)


def test_a_keeper_that_is_killed_takes_its_server_along(folder: Path, base: Path, fake_vllm: Vary) -> None:
    fake_vllm("STAND_IN_WRITES", "0.5")
    with ThreadPoolExecutor(1) as beside:
        sampling = beside.submit(lambda: own(folder, base).sample(*job(25)))
        until(lambda: "vLLM answers" in log(folder), folder)
        keeper, *others = family(folder)
        assert len(others) == 4
        keeper.kill()
        with pytest.raises(DeeperError, match="vLLM has ended"):
            sampling.result(PATIENCE)
    until(lambda: not live(others), folder)
    assert own(folder, base).sample(*job(1)) == expected(1)


def test_a_keeper_that_is_killed_while_the_server_loads_takes_it_along(
    folder: Path, base: Path, fake_vllm: Vary
) -> None:
    fake_vllm("STAND_IN_LOADS", "60")
    with ThreadPoolExecutor(1) as beside:
        sampling = beside.submit(lambda: own(folder, base).sample(*job(1)))
        until(lambda: len(family(folder)) == 5, folder)
        keeper, *others = family(folder)
        keeper.kill()
        with pytest.raises(DeeperError, match="vLLM has ended"):
            sampling.result(PATIENCE)
    until(lambda: not live(others), folder)


def test_a_keeper_that_cannot_be_started_leaves_the_gpu_free(
    folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(sys, "executable", "/no/such/python")
        with pytest.raises(FileNotFoundError, match="/no/such/python"):
            own(folder, base).sample(*job(1))
    assert own(folder, base).sample(*job(1)) == expected(1)


def test_a_client_that_is_killed_costs_the_others_nothing(folder: Path, base: Path, fake_vllm: Vary) -> None:
    fake_vllm("STAND_IN_WRITES", "0.5")
    killed = client(folder, base, 1000)
    until(lambda: "vLLM answers" in log(folder), folder)
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(lambda: own(folder, base).sample(*job(2)))
        time.sleep(1)
        killed.kill()
        killed.wait()
        assert other.result(PATIENCE) == expected(2)
    with alone_on_gpu(folder):  # nobody waits for whoever was killed
        assert family(folder) == []
    assert log(folder).count("starts vLLM") == 1


def test_a_client_that_is_killed_while_the_server_loads_leaves_it_to_the_next(
    folder: Path, base: Path, fake_vllm: Vary
) -> None:
    fake_vllm("STAND_IN_LOADS", "3")
    killed = client(folder, base, 1)
    until(lambda: "starts vLLM" in log(folder), folder)
    killed.kill()
    killed.wait()
    assert own(folder, base).sample(*job(1)) == expected(1)
    assert log(folder).count("starts vLLM") == 1


def test_a_server_ends_with_the_run_that_had_it_started(folder: Path, base: Path) -> None:
    """As `deeper run`, killed while it asks the chat model."""
    run = subprocess.Popen(["sleep", "600"])
    worker = client(folder, base, 1, stays=600, **{server_keeper.PARENT: str(run.pid)})
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"written\n"
    processes = family(folder)
    worker.kill()
    time.sleep(2 * server_keeper.PAUSE)
    assert live(processes)
    run.kill()
    until(lambda: not live(processes), folder)
    assert "leaves: its parent has ended" in log(folder)
    run.wait()
    worker.wait()


def test_a_server_outlives_its_run_for_those_who_sample(
    folder: Path, base: Path, fake_vllm: Vary, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm("STAND_IN_WRITES", "0.5")
    with subprocess.Popen(["sleep", "600"]) as run, ThreadPoolExecutor(1) as beside:
        monkeypatch.setenv(server_keeper.PARENT, str(run.pid))
        sampling = beside.submit(lambda: own(folder, base).sample(*job(25)))
        until(lambda: "vLLM answers" in log(folder), folder)
        run.kill()
        assert sampling.result(PATIENCE) == expected(25)
    until(lambda: not family(folder), folder)
    assert log(folder).count("starts vLLM") == 1


def test_a_training_is_alone_after_what_is_being_sampled(folder: Path, base: Path, fake_vllm: Vary) -> None:
    fake_vllm("STAND_IN_WRITES", "0.5")
    with ThreadPoolExecutor(2) as beside:
        before = beside.submit(lambda: own(folder, base).sample(*job(20)))
        until(lambda: "vLLM answers" in log(folder), folder)
        keeper, *others = family(folder)
        with alone_on_gpu(folder):
            assert before.result(0) == expected(20)
            assert not live(others)
            until(lambda: not live([keeper]), folder)  # its lock is free a moment before it has ended
            after = beside.submit(lambda: own(folder, base).sample(*job(2)))
            time.sleep(1.5)
            assert not after.done()
            assert log(folder).count("starts vLLM") == 1
        assert after.result(PATIENCE) == expected(2)
    assert log(folder).count("leaves: it was sent away") == 1


def test_a_training_comes_before_those_behind_it(folder: Path, base: Path, fake_vllm: Vary) -> None:
    def starts() -> int:
        with alone_on_gpu(folder):
            time.sleep(1)
            return log(folder).count("starts vLLM")

    fake_vllm("STAND_IN_WRITES", "0.5")
    with ThreadPoolExecutor(3) as beside:
        before = beside.submit(lambda: own(folder, base).sample(*job(20)))
        until(lambda: "vLLM answers" in log(folder), folder)
        training = beside.submit(starts)
        time.sleep(0.5)
        behind = beside.submit(lambda: own(folder, base).sample(*job(1)))
        assert training.result(PATIENCE) == 1
        assert before.done()
        assert behind.result(PATIENCE) == expected(1)
    assert log(folder).count("starts vLLM") == 2


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


def test_only_an_idle_server_is_dismissed(folder: Path, base: Path, fake_vllm: Vary) -> None:
    dismiss(folder)
    fake_vllm("STAND_IN_WRITES", "0.5")
    with ThreadPoolExecutor(1) as beside:
        sampling = beside.submit(lambda: own(folder, base).sample(*job(20)))
        until(lambda: "vLLM answers" in log(folder), folder)
        dismiss(folder)
        assert sampling.result(PATIENCE) == expected(20)
    processes = family(folder)
    assert live(processes)
    dismiss(folder)
    assert not live(processes)
    assert "leaves: it was sent away" in log(folder)
