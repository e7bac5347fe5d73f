"""Whole trainings: what comes out, from what, and what is refused."""

import errno
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.report import Progress
from deeper_assets.engines.training.train import train
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.engines.tiny_policy import save_tiny_policy
from deeper_assets_tests.engines.training.jobs import (
    ALL_AT_ONCE,
    TRAINING,
    Stopped,
    figures,
    files_at_most,
    ignore,
    log_probability,
    refuse,
    stop_at,
    weights_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


# ---------------------------------------------------------------------------------------------- iteration 2


def test_going_on_starts_at_log_2_unless_the_reference_is_the_base(
    job: TrainingJob, base: Path, model_1: Path
) -> None:
    second = replace(job, adapter=model_1, training=replace(ALL_AT_ONCE, sft_weight=0))
    assert figures(second)[0].loss == pytest.approx(math.log(2), abs=1e-6)

    against_base = figures(replace(second, reference="base", output=job.output / "base"))[0]
    rows = pd.read_parquet(job.examples).query("validation == 0")
    losses = []
    for _, row in rows.iterrows():
        chosen, rejected = (
            log_probability(base, model_1, row["prompt"], row[column])[0]
            - log_probability(base, None, row["prompt"], row[column])[0]
            for column in ("chosen", "rejected")
        )
        losses.append(math.log1p(math.exp(-0.5 * (chosen - rejected))))
    assert against_base.loss == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert against_base.loss < 0.6


def test_going_on_ends_in_one_ordinary_adapter(job: TrainingJob, base: Path, model_1: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    report = train(replace(job, adapter=model_1), ignore)
    assert report.start == weights_of(model_1)
    assert report.adapter == weights_of(job.output / "adapter") != report.start
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), job.output / "adapter")
    assert list(model.peft_config) == ["default"]
    assert model.peft_config["default"].r == 4
    trained = {name for name, _ in model.merge_and_unload().named_parameters()}
    assert trained == {name for name, _ in AutoModelForCausalLM.from_pretrained(base).named_parameters()}


@pytest.mark.parametrize(("name", "value"), [("lora_rank", 8), ("lora_alpha", 16)], ids=["rank", "alpha"])
def test_an_adapter_of_other_scaling_is_refused(
    job: TrainingJob, model_1: Path, name: str, value: int
) -> None:
    other = replace(job, adapter=model_1, training=replace(TRAINING, **{name: value}))
    with pytest.raises(DeeperError, match=rf"{'r' if name == 'lora_rank' else name} .*asks for {value}"):
        train(other, ignore)


def test_an_adapter_of_another_base_is_refused(job: TrainingJob, model_1: Path, tmp_path: Path) -> None:
    small = save_tiny_policy(tmp_path / "small", hidden=16)
    with pytest.raises(DeeperError, match=r"does not fit base model .*small.*\[4, 64\] in the adapter"):
        train(replace(job, base=str(small), adapter=model_1), ignore)


# ---------------------------------------------------------------------------------------------- the outcome


def test_the_report_says_what_was_done(job: TrainingJob) -> None:
    told: list[Progress] = []
    report = train(job, told.append)
    assert (report.trained, report.validated, report.left_out) == (16, 4, {})
    assert (report.steps, report.epochs, report.warmup_steps, report.resumed_from) == (8, 2, 1, 0)
    assert (report.loss, report.reference, report.start, report.device) == ("pairwise", "start", None, "cpu")
    assert (report.training, report.validation) == (told[-2], told[-1])
    assert report.versions["trl"].startswith("1.")
    # Of three prompts that validate; what was learned has three words.
    assert (report.endings.texts, report.endings.ended, report.endings.written) == (3, 1.0, True)
    assert [(row.kind, row.step) for row in told if row.kind == "validation"] == [
        ("validation", 4),
        ("validation", 8),
    ]
    assert [row.step for row in told if row.kind == "training"] == list(range(1, 9))
    assert json.loads((job.output / "training_log.json").read_text()) == [asdict(row) for row in told]
    assert sorted(path.name for path in job.output.iterdir()) == [
        "adapter",
        "lock",
        "report.json",
        "training_log.json",
    ]
    assert sorted(path.name for path in (job.output / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_policy_that_does_not_come_to_an_end_is_seen(job: TrainingJob) -> None:
    report = train(replace(job, decoding=replace(job.decoding, max_new_tokens=2)), ignore)
    assert (report.endings.texts, report.endings.ended, report.endings.tokens) == (3, 0.0, 2.0)
    assert train(job, refuse) == report  # how texts are written decides nothing of the adapter


def test_the_same_job_gives_the_same_bytes_wherever_it_lies(job: TrainingJob, tmp_path: Path) -> None:
    first = train(job, ignore)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "base").symlink_to(job.base)
    (moved / "examples").write_bytes(job.examples.read_bytes())
    other = replace(job, base=str(moved / "base"), examples=moved / "examples", output=tmp_path / "elsewhere")
    again = train(other, ignore)
    assert (again.job, again.adapter) == (first.job, first.adapter)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        mine, theirs = ((output / "adapter" / name).read_bytes() for output in (job.output, other.output))
        assert mine == theirs
    assert (
        json.loads(
            mine if name.endswith("json") else (job.output / "adapter/adapter_config.json").read_text()
        )["base_model_name_or_path"]
        == "base"
    )
    assert train(replace(other, seed=8), ignore).adapter != first.adapter


def test_a_finished_job_is_not_done_again_unless_something_changed(job: TrainingJob) -> None:
    report = train(job, ignore)
    assert train(job, refuse) == report
    weights = job.output / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert train(job, ignore).adapter == report.adapter
    assert weights.read_bytes() == whole
    assert train(replace(job, seed=8), ignore).job != report.job


def test_what_was_left_out_is_in_the_report(job: TrainingJob, groups: Path, tmp_path: Path) -> None:
    rows = pd.read_parquet(groups)
    rows.loc[rows["group"] == 0, "reward"] = 0.25
    rows.loc[(rows["group"] == 1) & (rows["reward"] == 1), "completion"] = "very " * 60
    rows.loc[rows["group"] == 2, "prompt"] = "very " * 60
    rows.to_parquet(tmp_path / "groups.parquet")
    report = train(replace(job, examples=tmp_path / "groups.parquet", loss="lipo"), ignore)
    assert (report.trained, report.validated) == (4, 1)
    assert report.left_out == {"all_equal": 1, "completion_too_long": 1, "too_long": 1}


def test_without_validation_examples_nothing_validates(job: TrainingJob, tmp_path: Path) -> None:
    pd.read_parquet(job.examples).assign(validation=0).to_parquet(tmp_path / "pairs.parquet")
    report = train(replace(job, examples=tmp_path / "pairs.parquet"), ignore)
    assert (report.trained, report.validated, report.validation) == (20, 0, None)


# ---------------------------------------------------------------------------------------------- what fails


def test_too_few_examples_are_counted_out(job: TrainingJob, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    with pytest.raises(DeeperError, match=r"examples .*pairs\.parquet: there is no such file"):
        train(replace(job, examples=path), ignore)
    pd.read_parquet(job.examples).iloc[3:5].to_parquet(path)
    with pytest.raises(
        DeeperError, match=r"1 training examples in .*, at least 2 are needed: of 2, 1 validate"
    ):
        train(replace(job, examples=path), ignore)
    pd.read_parquet(job.examples).iloc[:0].to_parquet(path)
    with pytest.raises(DeeperError, match="0 training examples"):
        train(replace(job, examples=path), ignore)


def test_a_loss_that_is_no_number_stops_at_once_and_the_old_adapter_stays(job: TrainingJob) -> None:
    old = train(job, ignore)
    told: list[Progress] = []
    wild = replace(job, training=replace(TRAINING, learning_rate=1e30))
    with pytest.raises(
        DeeperError, match=r"training diverged: .* step 3 of 8; lower training\.learning_rate"
    ):
        train(wild, told.append)
    assert len(told) == 2
    assert weights_of(job.output / "adapter") == old.adapter
    assert not (job.output / "checkpoints").exists()


def test_what_diverges_in_the_last_step_is_not_kept(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = replace(job, training=replace(ALL_AT_ONCE, learning_rate=1e37))
    with pytest.raises(DeeperError, match="training diverged: the validation loss is nan after step 1"):
        train(wild, ignore)

    def spoil(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.data.fill_(math.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    unseen = replace(job, examples=tmp_path / "pairs.parquet", training=ALL_AT_ONCE)
    pd.read_parquet(job.examples).assign(validation=0).to_parquet(unseen.examples)
    with pytest.raises(
        DeeperError, match="training diverged: the adapter's weights are no numbers after step 1"
    ):
        train(unseen, ignore)
    assert not (job.output / "adapter").exists()


@pytest.mark.parametrize("size", [5_000, 25_000], ids=["safetensors", "torch"])
def test_a_full_disk_is_said_and_goes_on_later(job: TrainingJob, size: int) -> None:
    with (
        files_at_most(size),
        pytest.raises(DeeperError, match=r"no space to write in .*output \(.* MB are free"),
    ):
        train(job, ignore)
    assert not list(job.output.rglob("checkpoint-*"))
    assert train(job, ignore).steps == 8


def test_a_full_disk_at_the_end_leaves_the_old_adapter(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = train(job, ignore)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "adapter_model.safetensors":
            write(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    with monkeypatch.context() as patched, pytest.raises(DeeperError, match="no space to write in"):
        patched.setattr(Path, "write_bytes", full)
        train(replace(job, seed=8), ignore)
    assert train(job, refuse) == old
    again = train(replace(job, seed=8), ignore)
    assert again.resumed_from == 8  # only the writing is done again
    assert sorted(path.name for path in job.output.iterdir()) == [
        "adapter",
        "lock",
        "report.json",
        "training_log.json",
    ]


def test_a_base_that_is_missing_or_damaged_is_named(job: TrainingJob, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(DeeperError, match=r"base model .*nowhere: there is no such folder"):
        train(replace(job, base=str(tmp_path / "nowhere")), ignore)
    broken = save_tiny_policy(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        DeeperError, match=r"broken lacks the weights 'model\.layers\.0\.mlp\.up_proj\.weight'"
    ):
        train(replace(job, base=str(broken)), ignore)
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(DeeperError, match=r"base model .*broken cannot be loaded"):
        train(replace(job, base=str(broken)), ignore)
    (broken / "chat_template.jinja").unlink()
    with pytest.raises(DeeperError, match="broken has no chat template"):
        train(replace(job, base=str(broken)), ignore)


def test_an_adapter_that_is_missing_or_damaged_is_named(
    job: TrainingJob, model_1: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeeperError, match=r"adapter .*nowhere: there is no such folder"):
        train(replace(job, adapter=tmp_path / "nowhere"), ignore)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_bytes((model_1 / "adapter_config.json").read_bytes())
    (broken / "adapter_model.safetensors").write_bytes(
        (model_1 / "adapter_model.safetensors").read_bytes()[:-9]
    )
    with pytest.raises(DeeperError, match=r"adapter .*broken cannot be loaded"):
        train(replace(job, adapter=broken), ignore)


# ---------------------------------------------------------------------------------------------- interrupted


@pytest.mark.parametrize(("stop_after", "resumed_from"), [(1, 0), (2, 1), (5, 4), (8, 7)])
def test_a_stopped_training_goes_on_to_the_same_end(
    job: TrainingJob, stop_after: int, resumed_from: int, tmp_path: Path
) -> None:
    """Epochs end at steps 4 and 8; a step is reported before its checkpoint is saved."""
    whole = train(replace(job, output=tmp_path / "whole"), ignore)

    with pytest.raises(Stopped):
        train(job, stop_at(stop_after))
    half_written = job.output / "checkpoints" / whole.job[:16] / "checkpoint-99"
    half_written.mkdir(parents=True)
    report = train(job, ignore)
    assert (report.resumed_from, report.adapter) == (resumed_from, whole.adapter)
    logs = [(output / "training_log.json").read_bytes() for output in (job.output, tmp_path / "whole")]
    assert logs[0] == logs[1]
    assert not (job.output / "checkpoints").exists()


def test_checkpoints_of_other_examples_are_not_gone_on_from(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(job, stop_at(5))
    fewer = tmp_path / "pairs.parquet"
    pd.read_parquet(job.examples).iloc[:15].to_parquet(fewer)
    assert train(replace(job, examples=fewer), ignore).resumed_from == 0
