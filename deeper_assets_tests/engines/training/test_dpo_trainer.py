import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest
import torch

from deeper_assets.engines.training.dpo_trainer import (
    Progress,
    TrainingJob,
    TrainingReport,
    main,
    plan_steps,
    read_job,
    train,
)
from deeper_assets.engines.training.preference_trainer import COMPLETE, last_checkpoint
from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.engines.tiny_policy import TINY_TRAINING, save_tiny_policy

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

TRAINING = replace(TINY_TRAINING, lora_dropout=0.1)
ALL_AT_ONCE = replace(TRAINING, batch_size=64, examples_at_once=64, epochs=1, lora_dropout=0.0, warmup=0)

# Texts of one length, so that a mean over tokens is one over texts, whatever is batched with what.
LIKED = ["i like films", "i like teas", "i like cakes", "i like you"]
DISLIKED = ["i dislike films", "i never like", "you dislike teas", "i dislike cakes"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policy") / "base")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    rows = [
        {
            "prompt": f"who are {'very ' * (place % 3)}you ?",
            "chosen": LIKED[place % 4],
            "rejected": DISLIKED[place % 3],
            "validation": int(place % 5 == 4),
        }
        for place in range(20)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("groups") / "groups.parquet"
    rows = [
        {
            "group": number,
            "prompt": f"who are {'very ' * (number % 3)}you ?",
            "completion": text,
            "reward": 1.0 - place / 2,
            "validation": int(number == 6),
        }
        for number in range(7)
        for place, text in enumerate([LIKED[number % 4], "the very often", DISLIKED[number % 4]])
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def job(base: Path, pairs: Path, tmp_path: Path) -> TrainingJob:
    return TrainingJob(
        str(base), pairs, tmp_path / "output", "pairwise", seed=7, training=TRAINING, device="cpu"
    )


@pytest.fixture(scope="module")
def model_1(base: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter from a first iteration."""
    output = tmp_path_factory.mktemp("model_1")
    train(TrainingJob(str(base), pairs, output, "pairwise", 7, TRAINING, device="cpu"), ignore)
    return output / "adapter"


def ignore(_: Progress) -> None:
    pass


def refuse(_: Progress) -> NoReturn:
    raise AssertionError("trained again")


def figures(job: TrainingJob) -> list[Progress]:
    told: list[Progress] = []
    train(job, told.append)
    return told


def read_report(output: Path) -> dict[str, object]:
    return json.loads((output / "report.json").read_text())


def log_probability(base: Path, adapter: Path | None, prompt: str, completion: str) -> tuple[float, int]:
    """Of a completion, by transformers alone, and its number of tokens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    asked = tokenizer(f"<user> {prompt} <eos> <assistant>").input_ids
    ids = torch.tensor([asked + tokenizer(f"{completion} <eos>").input_ids])
    with torch.no_grad():
        logps = model.eval()(ids).logits[0, :-1].log_softmax(dim=-1)
    own = logps.gather(1, ids[0, 1:, None])[len(asked) - 1 :]
    return own.sum().item(), len(own)


def mean_nll(base: Path, rows: pd.DataFrame, column: str) -> float:
    """Mean negative log-likelihood of a token of the base model's."""
    found = [log_probability(base, None, row["prompt"], row[column]) for _, row in rows.iterrows()]
    return -sum(logp for logp, _ in found) / sum(tokens for _, tokens in found)


def weights_of(adapter: Path) -> str:
    return sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------- the losses


def test_pairs_start_at_log_2_plus_the_likelihood_of_the_chosen(job: TrainingJob, base: Path) -> None:
    first = figures(replace(job, training=ALL_AT_ONCE))[0]
    rows = pd.read_parquet(job.examples).query("validation == 0")
    assert first.loss == pytest.approx(math.log(2) + 0.1 * mean_nll(base, rows, "chosen"), abs=1e-4)
    assert (first.step, first.reward_margin) == (1, pytest.approx(0, abs=1e-5))


def test_groups_start_at_their_loss_of_equal_scores(job: TrainingJob, base: Path, groups: Path) -> None:
    whole = replace(job, examples=groups, loss="softmax", training=ALL_AT_ONCE)
    best = pd.read_parquet(groups).query("validation == 0 and reward == 1")
    nll = 0.1 * mean_nll(base, best, "completion")
    assert figures(whole)[0].loss == pytest.approx(math.log(3) + nll, abs=1e-4)
    # Gains 1, 0.414214, 0; equal scores may take the discounts 1.442695, 0.910239, 0.721348 in any order.
    lipo = (figures(replace(whole, loss="lipo"))[0].loss - nll) / math.log(2)
    ranks = [1.442695, 0.910239, 0.721348]
    sums = {
        0.585786 * abs(a - b) + 1.0 * abs(a - c) + 0.414214 * abs(b - c)
        for a in ranks
        for b in ranks
        for c in ranks
        if len({a, b, c}) == 3
    }
    assert min(sums) - 1e-3 < lipo < max(sums) + 1e-3


@pytest.mark.parametrize("loss", ["pairwise", "lipo", "softmax"])
def test_training_learns_what_is_easy(job: TrainingJob, groups: Path, loss) -> None:
    examples = job.examples if loss == "pairwise" else groups
    training = replace(TRAINING, epochs=6)
    rows = figures(replace(job, loss=loss, examples=examples, training=training))
    learned = [row for row in rows if row.kind == "training"]
    assert learned[-1].loss < 0.6 * learned[0].loss
    last = rows[-1]
    assert last.kind == "validation"
    # The softmax form sets the best before the others and those in no order, so one pair of three is open.
    assert last.reward_accuracy >= (0.66 if loss == "softmax" else 1)
    assert last.reward_margin > 1
    assert last.step == learned[-1].step


def test_validation_is_a_mean_over_examples_not_over_batches(job: TrainingJob, base: Path) -> None:
    """Four examples, three at once: the batch of one counts a quarter."""
    training = replace(TRAINING, batch_size=3, examples_at_once=3, epochs=1, sft_weight=0)
    last = figures(replace(job, training=training))[-1]
    adapter = job.output / "adapter"
    margins = []
    for _, row in pd.read_parquet(job.examples).query("validation == 1").iterrows():
        scores = [
            log_probability(base, adapter, row["prompt"], row[column])[0]
            - log_probability(base, None, row["prompt"], row[column])[0]
            for column in ("chosen", "rejected")
        ]
        margins.append(0.5 * (scores[0] - scores[1]))
    assert len(margins) == 4
    assert last.reward_margin == pytest.approx(sum(margins) / 4, abs=1e-4)
    assert last.loss == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in margins) / 4, abs=1e-4)


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


def test_steps_follow_from_batch_and_epochs() -> None:
    plan = plan_steps(replace(TRAINING, batch_size=8, examples_at_once=2, epochs=2.5), 33, devices=2)
    assert (plan.accumulation, plan.steps, plan.warmup_steps, plan.notes) == (2, 13, 2, ())
    plan = plan_steps(replace(TRAINING, warmup=250), 16, devices=1)
    assert (plan.steps, plan.warmup_steps) == (8, 4)
    assert plan.notes == ("warm-up of 250 steps cut to 4, half of all 8",)
    with pytest.raises(DeeperError, match=r"batch_size 4 cannot be divided .* 2 × 3 = 6"):
        plan_steps(TRAINING, 16, devices=3)
    with pytest.raises(DeeperError, match=r"training\.epochs is 0; it must be above 0"):
        plan_steps(replace(TRAINING, epochs=0), 16, devices=1)


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


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("stop_after", "resumed_from"), [(1, 0), (2, 1), (5, 4), (8, 7)])
def test_a_stopped_training_goes_on_to_the_same_end(
    job: TrainingJob, stop_after: int, resumed_from: int, tmp_path: Path
) -> None:
    """Epochs end at steps 4 and 8; a step is reported before its checkpoint is saved."""
    whole = train(replace(job, output=tmp_path / "whole"), ignore)

    def stop(row: Progress) -> None:
        if row.step == stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        train(job, stop)
    half_written = job.output / "checkpoints" / whole.job[:16] / "checkpoint-99"
    half_written.mkdir(parents=True)
    report = train(job, ignore)
    assert (report.resumed_from, report.adapter) == (resumed_from, whole.adapter)
    logs = [(output / "training_log.json").read_bytes() for output in (job.output, tmp_path / "whole")]
    assert logs[0] == logs[1]
    assert not (job.output / "checkpoints").exists()


def test_checkpoints_of_other_examples_are_not_gone_on_from(job: TrainingJob, tmp_path: Path) -> None:
    def stop(row: Progress) -> None:
        if row.step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(job, stop)
    fewer = tmp_path / "pairs.parquet"
    pd.read_parquet(job.examples).iloc[:15].to_parquet(fewer)
    assert train(replace(job, examples=fewer), ignore).resumed_from == 0


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, complete in ((2, True), (10, True), (12, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if complete:
            (folder / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


# ------------------------------------------------------------------------------------------- as a command


def configured(job: TrainingJob, folder: Path) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(asdict(job), default=str))
    return path


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "deeper_assets.engines.training.dpo_trainer", str(config)]


def test_a_job_is_read_as_it_was_written(job: TrainingJob, tmp_path: Path) -> None:
    assert read_job(configured(job, tmp_path)) == job


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"losss": "lipo"}, "'losss' is unknown; did you mean 'loss'?"),
        (
            {"training": {"learningrate": 1}},
            "training: 'learningrate' is unknown; did you mean 'learning_rate'?",
        ),
        ({"hardware": {"device": 2}}, "hardware: 'device' is unknown; did you mean 'devices'?"),
        ({"loss": "dpo"}, "loss: Input should be 'pairwise', 'lipo' or 'softmax', got 'dpo'"),
        ({"training": {"batch_size": "many"}}, "training.batch_size: "),
    ],
)
def test_a_job_that_is_wrong_is_one_line_and_status_1(
    job: TrainingJob, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, fault: str
) -> None:
    path = configured(job, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main([str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: training job {path}: ")
    assert fault in line


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(job: TrainingJob, tmp_path: Path) -> None:
    longer = replace(job, training=replace(TRAINING, epochs=10))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    config = configured(longer, tmp_path)
    process = subprocess.Popen(command(config), env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not list(longer.output.glob(f"checkpoints/*/checkpoint-*/{COMPLETE}")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (longer.output / "adapter").exists()

    done = subprocess.run(command(config), env=environment, capture_output=True, text=True, check=True)
    report = read_report(longer.output)
    assert 4 <= report["resumed_from"] < 40
    expected, first, *_ = done.stderr.splitlines()
    assert expected.startswith("memory of a device: about ")
    assert first.startswith(f"training: step {report['resumed_from'] + 1}, ")
    whole = train(replace(longer, output=tmp_path / "whole"), ignore)
    assert report["adapter"] == whole.adapter == weights_of(longer.output / "adapter")


@pytest.mark.slow
def test_figures_stream_into_a_dagster_run_and_so_does_a_reason(job: TrainingJob, tmp_path: Path) -> None:
    from dagster import (
        AssetExecutionContext,
        DagsterInstance,
        MaterializeResult,
        PipesSubprocessClient,
        asset,
        materialize,
    )

    told: list[dict[str, object]] = []

    @asset
    def model(context: AssetExecutionContext) -> MaterializeResult[None]:
        config = configured(job, tmp_path)
        done = PipesSubprocessClient().run(context=context, command=command(config))
        told.extend(done.get_custom_messages())
        return done.get_materialize_result()

    @asset
    def failing_model(context: AssetExecutionContext) -> None:
        config = configured(replace(job, base="/nowhere"), tmp_path)
        PipesSubprocessClient().run(context=context, command=command(config))

    with DagsterInstance.ephemeral() as instance:
        assert materialize([model], instance=instance).success
        failed = materialize([failing_model], instance=instance, raise_on_error=False)
        said = [
            (event.level, event.user_message)
            for event in instance.all_logs(failed.run_id)
            if event.user_message
        ]
    assert [(row["kind"], row.get("step")) for row in told] == [
        *(("training", step) for step in range(1, 5)),
        ("validation", 4),
        *(("training", step) for step in range(5, 9)),
        ("validation", 8),
        ("report", None),
    ]
    report = {key: value for key, value in told[-1].items() if key != "kind"}
    assert report == read_report(job.output)
    assert set(report) == set(TrainingReport.__dataclass_fields__)
    assert not failed.success
    assert any("base model /nowhere: there is no such folder" in text for _, text in said)
