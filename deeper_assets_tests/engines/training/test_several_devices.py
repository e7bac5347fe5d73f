"""Two processes on the CPU train as one does, and end together."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from deeper_assets.engines.training import __main__ as program
from deeper_assets.engines.training import launching, trainer
from deeper_assets.engines.training.failures import FAILURE
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.train import LOG, train
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.engines.training.jobs import (
    Stopped,
    command,
    configured,
    files_at_most,
    ignore,
    stop_at,
)
from deeper_assets_tests.engines.training.processes import (
    OUT_OF_MEMORY,
    TRAINING,
    TWO,
    assert_alike,
    checkpointed,
    killed,
    log_of,
    processes_of,
    wait_for,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.usefixtures("one_thread_and_no_gpus"),
]

SHARDED = """
import sys
from pathlib import Path
from deeper_assets.engines.training import launching
launching.launch("deeper_assets_tests.engines.training.sharded_on_cpu", Path(sys.argv[1]), 2)
"""


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


def started(job: TrainingJob, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(command(configured(job)), stderr=subprocess.PIPE, text=True, **options)


def expected_end(job: TrainingJob) -> float:
    """The mean probability of the end token behind the better texts that validate, by transformers alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.base)
    model = AutoModelForCausalLM.from_pretrained(job.base)
    model = PeftModel.from_pretrained(model, job.output / "adapter").eval()
    rows = pd.read_parquet(job.examples).query("validation == 1 and reward == 1")
    chances = []
    for prompt, text in rows[["prompt", "completion"]].itertuples(index=False):
        ids = tokenizer(f"<user> {prompt} <eos> <assistant> {text}", return_tensors="pt").input_ids
        with torch.no_grad():
            chances.append(model(ids).logits[0, -1].softmax(dim=-1)[tokenizer.eos_token_id].item())
    return sum(chances) / len(chances)


# ------------------------------------------------------------------------------------------- as one does


@pytest.mark.slow
def test_a_policy_in_shards_trains_as_a_whole_one_does_also_when_killed(
    job: TrainingJob, groups: Path, tmp_path: Path
) -> None:
    whole = replace(job, examples=groups, loss="lipo", training=replace(TRAINING, epochs=4.0))
    train(whole, ignore)
    hardware = replace(TWO, sharding="fsdp", gradient_checkpointing=True)
    sharded = replace(whole, hardware=hardware, output=tmp_path / "sharded")
    in_shards = [sys.executable, "-c", SHARDED, str(configured(sharded))]
    killed(subprocess.Popen(in_shards, stderr=subprocess.PIPE, text=True), sharded.output)
    assert list(sharded.output.glob("checkpoints/*-fsdp/*/pytorch_model_fsdp.bin"))
    subprocess.run(in_shards, check=True, stderr=subprocess.DEVNULL)
    report = json.loads((sharded.output / "report.json").read_text())
    assert report["resumed_from"] > 0
    # Four validate. In shards nothing is written: the end token is expected behind their better texts.
    assert (report["endings"]["texts"], report["endings"]["written"]) == (4, False)
    assert report["endings"]["ended"] == pytest.approx(expected_end(whole), abs=1e-3)
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
        _, told = process.communicate()
    assert process.returncode == 0, told
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
        _, told = process.communicate()
    assert process.returncode == 1
    assert psutil.wait_procs(training, timeout=60)[1] == []
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert line == f"error: {OUT_OF_MEMORY.format(devices=2)}"


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
        _, told = process.communicate()
    assert process.returncode == 1
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
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


def test_a_stopped_training_goes_on_whatever_the_hardware(
    job: TrainingJob, model_1: Path, tmp_path: Path
) -> None:
    hardware = Hardware(gradient_checkpointing=True, precompute_reference=False, group_by_length=True)
    second = replace(job, adapter=model_1, hardware=hardware, training=replace(TRAINING, lora_dropout=0.1))
    whole = train(replace(second, output=tmp_path / "whole"), ignore)
    with pytest.raises(Stopped):
        train(second, stop_at(6))
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
    collate, counts = trainer.collate, []

    def counted(groups: Any, pad_token_id: int) -> dict[str, Any]:
        batch = collate(groups, pad_token_id)
        own = [len(of["prompt_ids"]) - 1 + sum(1 + len(ids) for ids in of["completion_ids"]) for of in groups]
        counts.append(batch["packed_ids"].numel() - sum(own))
        return batch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "collate", counted)
        yield counts


def test_the_machine_is_no_part_of_what_a_model_is(job: TrainingJob) -> None:
    """Else it would be trained again on another machine."""
    done = train(job, ignore)
    elsewhere = Hardware(devices=4, gradient_checkpointing=True, precompute_reference=False)
    assert train(replace(job, hardware=elsewhere), ignore) == done


def test_what_all_processes_foresee_the_first_one_says(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LOG, "propagate", True)
    monkeypatch.setattr(program, "_train", lambda *_: LOG.warning("memory will not suffice"))
    monkeypatch.setattr(launching, "end_with_parent", lambda: None)
    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.setenv(name, "1")
    assert program.main([str(configured(job))]) == 0
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
        _, told = process.communicate()
    assert process.returncode == 130
    assert told.splitlines()[-1] == "stopped; the same command goes on from the last checkpoint"
