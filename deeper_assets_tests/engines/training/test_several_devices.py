"""Two processes on the CPU train as one does, and end together."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from dagster import (
    AssetKey,
    AssetSpec,
    DagsterInstance,
    ExecuteInProcessResult,
    InputContext,
    IOManager,
    OutputContext,
    materialize,
)

from deeper_assets.engines.training import dpo_trainer, launching
from deeper_assets.engines.training.dpo_trainer import FAILURE, Progress, TrainingJob, repeats, train
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.preference_examples import PairCollator
from deeper_assets.engines.training.preference_trainer import COMPLETE
from deeper_assets.graph import Graph
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.adapters import as_rows
from deeper_assets_tests.engines.tiny_policy import TINY_TRAINING, save_tiny_policy

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

TRAINING = replace(TINY_TRAINING, examples_at_once=1)
TWO = Hardware(devices=2)

TRAINER = {
    "deeper_assets.engines.training.dpo_trainer",
    "deeper_assets_tests.engines.training.sharded_on_cpu",
}

SHARDED = """
import sys
from pathlib import Path
from deeper_assets.engines.training import launching
launching.launch("deeper_assets_tests.engines.training.sharded_on_cpu", Path(sys.argv[1]), 2)
"""

OUT_OF_MEMORY = (
    "out of memory (killed by signal 9, as the system does when memory runs out); lower "
    "training.examples_at_once (now 1) or training.max_length (now 64); or set "
    "hardware.gradient_checkpointing to true (now false), hardware.sharding to fsdp (now none), "
    "hardware.devices to more GPUs (now {devices})"
)

LOSS, WEIGHT = 1e-5, 1e-3
"""How far figures and weights may be from those of one process: sums are rounded in another order, and AdamW
turns the difference of a tiny gradient into one of a whole step."""


@pytest.fixture(autouse=True)
def _one_thread_and_no_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here as in the processes that are started: all scores are 0 at first, and last bits order them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policy") / "base")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen train and four validate: the same for each of two processes."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    rows = [
        {
            "prompt": f"who are {'very ' * (place * 7 % 11)}you ?",
            "chosen": f"i like films {'and teas ' * (place % 4)}",
            "rejected": f"i never like {'cakes ' * (place % 3)}",
            "validation": int(place % 5 == 4),
        }
        for place in range(20)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def groups(pairs: Path) -> Path:
    path = pairs.with_name("groups.parquet")
    rows = [
        {"group": number, "prompt": row["prompt"], "completion": row[column], "reward": reward}
        | {"validation": row["validation"]}
        for number, row in pd.read_parquet(pairs).iterrows()
        for column, reward in (("chosen", 1.0), ("rejected", -0.5), ("prompt", 0.25))
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def job(base: Path, pairs: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(str(base), pairs, tmp_path / "output", "pairwise", 7, TRAINING, device="cpu")


@pytest.fixture
def model_1(job: TrainingJob, tmp_path: Path) -> Path:
    train(replace(job, output=tmp_path / "model_1"), ignore)
    return tmp_path / "model_1" / "adapter"


def ignore(_: Progress) -> None:
    pass


def configured(job: TrainingJob) -> Path:
    job.output.mkdir(exist_ok=True)
    path = job.output / "job.json"
    path.write_text(json.dumps(asdict(job), default=str))
    return path


def started(job: TrainingJob, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "deeper_assets.engines.training.dpo_trainer", str(configured(job))]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def log_of(output: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads((output / "training_log.json").read_text()))


def weights_of(output: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(output / "adapter" / "adapter_model.safetensors")


def assert_alike(one: Path, other: Path) -> None:
    """The same figures at the same steps, and the same adapter, but for rounding."""
    logs = [log_of(output) for output in (one, other)]
    pd.testing.assert_frame_equal(*logs, rtol=LOSS, atol=LOSS)
    assert len(logs[0]) > 0
    weights = [weights_of(output) for output in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert (weight - weights[1][name]).abs().max().item() < WEIGHT, name


class Given(IOManager):
    """Hands out the frames it is given by the name of their table, and keeps those that are made."""

    def __init__(self, **frames: pd.DataFrame) -> None:
        self.frames = frames

    def load_input(self, context: InputContext) -> pd.DataFrame:
        return self.frames[context.asset_key.to_user_string()]

    def handle_output(self, context: OutputContext, obj: pd.DataFrame) -> None:
        self.frames[context.asset_key.to_user_string()] = obj


def processes_of(process: int) -> list[psutil.Process]:
    """Those that it has started to train, in the order of their ranks."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            said = child.cmdline()
            if TRAINER.intersection(said) and "resource_tracker" not in " ".join(said):
                found.append((child.environ().get("RANK", ""), child.pid, child))
    return [child for _, _, child in sorted(found, key=lambda of: of[:2])]


def wait_for(happened: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while not happened():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


def checkpointed(output: Path) -> bool:
    return any(output.glob(f"checkpoints/*/checkpoint-*/{COMPLETE}"))


def killed(process: "subprocess.Popen[str]", output: Path) -> None:
    """Kills whoever started the training once there is a checkpoint, and waits until nobody trains."""
    with process:
        wait_for(lambda: checkpointed(output), process)
        training = processes_of(process.pid)
        process.kill()
    assert len(training) == 2
    assert psutil.wait_procs(training, timeout=60)[1] == []
    assert not (output / "adapter").exists()


# ------------------------------------------------------------------------------------------- in Dagster


def materialized(experiment: Experiment, given: Given, instance: DagsterInstance) -> ExecuteInProcessResult:
    """Model 1, by the asset that makes it."""
    (asset,) = [one for one in Graph.of(experiment).assets() if AssetKey("model_1") in one.keys]
    resources = {"warehouse": given, "io_manager": given}
    assets = [asset, *map(AssetSpec, given.frames)]
    return materialize(
        assets, instance=instance, resources=resources, partition_key="paper", raise_on_error=False
    )


@pytest.fixture
def given(base: Path, pairs: Path) -> Given:
    rows = pd.read_parquet(pairs)
    return Given(base_policy=as_rows(base), preference_pairs_1=rows, preference_groups_1=rows.iloc[:0])


@pytest.mark.slow
def test_two_processes_in_a_dagster_run_train_as_one_does(
    job: TrainingJob, given: Given, tmp_path: Path
) -> None:
    training = replace(TRAINING, batch_size=8)
    experiment = Experiment(tmp_path / "home", Settings(training=training, hardware=TWO, seed=7))
    with DagsterInstance.ephemeral() as instance:
        done = materialized(experiment, given, instance)
        said = [event.user_message for event in instance.all_logs(done.run_id)]
    (made,) = done.asset_materializations_for_node("model_1")
    report = made.metadata["report"].value
    assert (report["devices"], report["trained"], report["steps"]) == (2, 16, 4)
    # The first process alone speaks: each figure, and the memory, once.
    assert sum("training: step 4, " in text for text in said) == 1
    assert sum("memory of a device: about " in text for text in said) == 1
    assert set(given.frames["model_1"]["file"]) == {"adapter_config.json", "adapter_model.safetensors"}

    train(replace(job, training=training), ignore)
    assert_alike(job.output, experiment.home / "training" / "paper_1")


@pytest.mark.slow
def test_a_training_in_dagster_that_the_system_kills_says_what_to_change(
    given: Given, tmp_path: Path
) -> None:
    experiment = Experiment(tmp_path / "home", Settings(training=replace(TRAINING, epochs=200.0)))
    output = experiment.home / "training" / "paper_1"

    def kill() -> None:
        while not checkpointed(output):
            time.sleep(0.02)
        processes_of(os.getpid())[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with DagsterInstance.ephemeral() as instance:
        done = materialized(experiment, given, instance)
    killer.join()
    (failure,) = [event.step_failure_data.error for event in done.all_events if event.is_step_failure]
    said = failure.cause.message if failure.cause else failure.message
    assert f"DeeperError: {OUT_OF_MEMORY.format(devices=1)}" in said


# ------------------------------------------------------------------------------------------- as one does


@pytest.mark.slow
def test_a_policy_in_shards_trains_as_a_whole_one_does_also_when_killed(
    job: TrainingJob, groups: Path, tmp_path: Path
) -> None:
    whole = replace(job, examples=groups, loss="lipo", training=replace(TRAINING, epochs=4.0))
    train(whole, ignore)
    hardware = replace(TWO, sharding="fsdp", gradient_checkpointing=True)
    sharded = replace(whole, hardware=hardware, output=tmp_path / "sharded")
    config = configured(sharded)
    command = [sys.executable, "-c", SHARDED, str(config)]
    killed(subprocess.Popen(command, stderr=subprocess.PIPE, text=True), sharded.output)
    assert list(sharded.output.glob("checkpoints/*-fsdp/*/pytorch_model_fsdp.bin"))
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert json.loads((sharded.output / "report.json").read_text())["resumed_from"] > 0
    assert_alike(whole.output, sharded.output)


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False], ids=["before", "in every step"])
def test_shards_in_half_precision_train_against_the_base(
    job: TrainingJob, model_1: Path, tmp_path: Path, before: bool
) -> None:
    whole = replace(job, adapter=model_1, reference="base")
    train(whole, ignore)
    hardware = replace(TWO, sharding="fsdp", precompute_reference=before)
    half = replace(whole, training=replace(TRAINING, bf16=True), hardware=hardware, output=tmp_path / "half")
    subprocess.run([sys.executable, "-c", SHARDED, str(configured(half))], check=True)
    figures = ["loss", "reward_margin"]
    difference = log_of(whole.output)[figures] - log_of(half.output)[figures]
    assert difference.abs().to_numpy().max() < 0.05


# ------------------------------------------------------------------------------------------ they end together


@pytest.mark.slow
def test_a_killed_start_leaves_nobody_behind_and_two_or_one_go_on(job: TrainingJob, tmp_path: Path) -> None:
    longer = replace(job, training=replace(TRAINING, epochs=5.0))
    both = replace(longer, hardware=TWO, output=tmp_path / "both")
    killed(started(both), both.output)

    train(longer, ignore)
    alone = replace(longer, output=Path(shutil.copytree(both.output, tmp_path / "alone")))
    assert train(alone, ignore).resumed_from > 0
    assert_alike(longer.output, alone.output)

    with started(both) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    report = json.loads((both.output / "report.json").read_text())
    assert (report["resumed_from"] > 0, report["devices"]) == (True, 2)
    assert_alike(longer.output, both.output)
    assert train(replace(both, hardware=Hardware()), ignore).devices == 2  # is not trained again


@pytest.mark.slow
def test_a_process_that_the_system_kills_ends_all_and_says_what_to_change(job: TrainingJob) -> None:
    both = replace(job, hardware=TWO, training=replace(TRAINING, epochs=20.0))
    with started(both) as process:
        wait_for(lambda: checkpointed(job.output), process)
        training = processes_of(process.pid)
        training[1].kill()
        _, said = process.communicate()
    assert process.returncode == 1
    assert psutil.wait_procs(training, timeout=60)[1] == []
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line == f"error: {OUT_OF_MEMORY.format(devices=2)}"


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "size", "fault"),
    [
        ({"max_length": 6}, 10**9, "error: 0 training examples in "),
        ({"learning_rate": 1e30}, 10**9, "error: training diverged: the loss is nan at step "),
        ({}, 25_000, "error: no space to write in "),
    ],
    ids=["too few", "no number", "full disk"],
)
def test_what_fails_in_one_is_said_once(
    job: TrainingJob, training: dict[str, Any], size: int, fault: str
) -> None:
    both = replace(job, hardware=TWO, training=replace(TRAINING, **training))
    with files_at_most(size), started(both) as process:
        _, said = process.communicate()
    assert process.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(fault)
    assert not (job.output / "adapter").exists()
    assert (job.output / f"job{FAILURE}").exists()


# ---------------------------------------------------------------------------------------- how many there are


def test_more_gpus_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(hardware: Hardware, gpus: int) -> int:
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        return launching.count_devices(hardware, "auto")

    assert [count(Hardware(devices="all"), gpus) for gpus in (0, 1, 4)] == [1, 1, 4]
    assert [count(Hardware(devices=2), gpus) for gpus in (0, 4)] == [2, 2]
    with pytest.raises(DeeperError, match=r"hardware\.devices is 8, but there are 4 GPUs; set it to all"):
        count(Hardware(devices=8), 4)
    with pytest.raises(DeeperError, match=r"hardware\.devices is 0; it must be 1 or more, or all"):
        count(Hardware(devices=0), 4)
    with pytest.raises(DeeperError, match=r"hardware\.sharding is fsdp, but there is no GPU"):
        count(Hardware(devices=2, sharding="fsdp"), 0)
    assert launching.count_devices(Hardware(devices="all"), "cpu") == 1


def test_what_is_taken_twice_so_that_all_have_as_many_is_said() -> None:
    two_at_once = replace(TRAINING, examples_at_once=2)
    assert repeats(two_at_once, {"training": 16, "validation": 5}, devices=1) == ()
    assert repeats(two_at_once, {"training": 16, "validation": 5}, devices=2) == (
        "each pass over validation takes 3 of 5 examples twice, so that 2 devices have as many",
    )
    assert repeats(two_at_once, {"training": 17, "validation": 0}, devices=4) == (
        "each pass over training takes 7 of 17 examples twice, so that 4 devices have as many",
    )


# ---------------------------------------------------------------------------------------- choices of hardware


@pytest.mark.parametrize("loss", ["pairwise", "lipo"])
@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
def test_a_reference_computed_in_every_step_is_the_one_computed_before(
    job: TrainingJob, groups: Path, model_1: Path, tmp_path: Path, loss: Any, again: bool
) -> None:
    """With dropout, which the reference must not have."""
    examples = job.examples if loss == "pairwise" else groups
    before = replace(job, loss=loss, examples=examples, training=replace(TRAINING, lora_dropout=0.1))
    before = replace(before, adapter=model_1 if again else None)
    each = replace(before, output=tmp_path / "each", hardware=Hardware(precompute_reference=False))
    train(before, ignore)
    train(each, ignore)
    assert_alike(before.output, each.output)


class Stopped(Exception):
    pass


def stop_at_step_6(row: Progress) -> None:
    if row.step == 6:
        raise Stopped


def test_a_stopped_training_goes_on_whatever_the_hardware(
    job: TrainingJob, model_1: Path, tmp_path: Path
) -> None:
    hardware = Hardware(gradient_checkpointing=True, precompute_reference=False, group_by_length=True)
    second = replace(job, adapter=model_1, hardware=hardware, training=replace(TRAINING, lora_dropout=0.1))
    whole = train(replace(second, output=tmp_path / "whole"), ignore)
    with pytest.raises(Stopped):
        train(second, stop_at_step_6)
    report = train(second, ignore)
    assert (report.resumed_from, report.adapter) == (5, whole.adapter)


def test_grouping_by_length_keeps_the_steps_and_saves_padding(job: TrainingJob, tmp_path: Path) -> None:
    training = replace(TRAINING, batch_size=16, examples_at_once=2, sft_weight=0.0, epochs=3.0)
    padding, logs = [], []
    for grouped in (False, True):
        output = tmp_path / str(grouped)
        with counted_padding() as counts:
            hardware = Hardware(group_by_length=grouped)
            train(replace(job, training=training, output=output, hardware=hardware), ignore)
        padding.append(sum(counts))
        logs.append(log_of(output)[["kind", "step", "loss", "reward_margin"]])
    pd.testing.assert_frame_equal(*logs, rtol=1e-4, atol=1e-4)
    assert 0 < padding[1] < padding[0] / 2


@contextmanager
def counted_padding() -> Iterator[list[int]]:
    """Tokens of each batch that are none of its examples'."""
    collate, counts = PairCollator.__call__, []

    def counted(self: PairCollator, pairs: Any) -> dict[str, Any]:
        batch = collate(self, pairs)
        own = [len(of["prompt_ids"]) - 1 + sum(1 + len(ids) for ids in of["completion_ids"]) for of in pairs]
        counts.append(batch["packed_ids"].numel() - sum(own))
        return batch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PairCollator, "__call__", counted)
        yield counts


def test_the_machine_is_no_part_of_what_a_model_is(job: TrainingJob, tmp_path: Path) -> None:
    """Else it would be stale on another machine; only grouping by length changes more than last bits."""
    done = train(job, ignore)
    elsewhere = Hardware(devices=4, gradient_checkpointing=True, precompute_reference=False)
    assert train(replace(job, hardware=elsewhere), ignore) == done
    described = [
        Graph.of(Experiment(tmp_path, Settings(hardware=hardware))).settings("model_1", {"recipe": "paper"})
        for hardware in (Hardware(), elsewhere, Hardware(group_by_length=True))
    ]
    assert described[0] == described[1]
    assert described[2] == {**described[0], "hardware": {"group_by_length": True}}


def test_what_all_processes_foresee_the_first_one_says(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("deeper_assets.engines.training.dpo_trainer")
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(dpo_trainer, "_train_in_file", lambda *_: log.warning("memory will not suffice"))
    monkeypatch.setattr(launching, "end_with_parent", lambda: None)
    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.setenv(name, "1")
    assert dpo_trainer.main([str(configured(job))]) == 0
    assert caplog.messages == []


def test_a_process_ends_whose_parent_was_gone_before_it_could_look() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = (
        "import time; from deeper_assets.engines.training import launching as l;"
        "l.end_with_parent(); time.sleep(60)"
    )
    for parent, status in ((gone.pid, 1), (os.getpid(), None)):
        env = {**os.environ, launching.PARENT: str(parent)}
        with subprocess.Popen([sys.executable, "-c", code], env=env) as process:
            try:
                assert process.wait(5) == status
            except subprocess.TimeoutExpired:
                assert status is None
            process.kill()


@pytest.mark.slow
def test_stopped_by_hand_it_says_how_to_go_on(job: TrainingJob) -> None:
    both = replace(job, hardware=TWO)
    with started(both) as process:
        wait_for(lambda: len(processes_of(process.pid)) == 2, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped; the same command goes on from the last checkpoint"
