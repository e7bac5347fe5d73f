"""Trains a policy on preferences: `python -m deeper_assets.engines.training.dpo_trainer CONFIG`.

CONFIG is a JSON file with the fields of `TrainingJob`. It runs alone, or under Dagster Pipes, in a process of
its own so that all memory is free when it ends; where the job asks for several devices, that process starts
one for each (`launching`). A killed training goes on from its last checkpoint when it is started again, and
comes to the same bytes as an undisturbed one; on another number of devices, to the same but for rounding.

The loss (Section 3.3) is sigmoid DPO plus α times the negative log-likelihood of the chosen persona, on a
LoRA adapter. Departs from the paper: `lipo` and `softmax` look at all candidates of a context
(`preference_losses`), and the reference of iteration 2, which the paper does not state, is the policy it
starts from, or the base. Its log-probabilities are computed once, before training and without dropout: TRL
would keep a copy of the adapter whose own dropout makes the reference noisy.
"""

import difflib
import errno
import fcntl
import gc
import hashlib
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

from deeper_assets.engines.training import launching, memory
from deeper_assets.engines.training.hardware import ONE_DEVICE, Hardware
from deeper_assets.engines.training.memory import Memory
from deeper_assets.engines.training.preference_examples import Example, Examples, Loss, read_groups, tokenized
from deeper_assets.engines.training.preference_trainer import (
    WEIGHTS,
    Diverged,
    adapter_files,
    adapter_weights,
    checkpoint_step,
    last_checkpoint,
    load_adapter,
    load_base,
    load_tokenizer,
    trainer_class,
)
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.method.recipes import Training

ADAPTER, REPORT, LOG, CHECKPOINTS = "adapter", "report.json", "training_log.json", "checkpoints"
"""What a training leaves in its output folder; the checkpoints only until it is done."""

FAILURE = ".failure"
"""Suffix of the file beside CONFIG that says why a training under Pipes failed: one line for people."""

CODE_VERSION = "2"
"""Changes with anything here that changes an adapter: what other code left behind is not gone on from, and
models that it trained are stale."""

CHECKPOINTS_A_RUN = 10
LOGS_A_RUN = 100

KILLED = "killed by signal 9, as the system does when memory runs out"
"""What is said of a process that was killed and left no reason."""

_LOG = logging.getLogger(__name__)

_FULL = ("os error 27", "os error 28", "os error 122", "PytorchStreamWriter failed", "inline_container.cc")
"""What safetensors (by errno) and torch say when a write fails."""

# ---------------------------------------------------------------------------------------------- the job


@dataclass(frozen=True)
class TrainingJob:
    """What to train, on what, and where to.

    Attributes:
        base: folder or hub name of the base model.
        examples: Parquet file of pairs or groups; see `preference_examples.read_groups`.
        output: folder for the adapter, the report and the log; made if need be.
        loss: DPO on pairs, or on whole groups: LiPO-λ or the softmax form of S-DPO.
        seed: decides the first weights, the order of examples and the dropout.
        training: how hard the optimizer works.
        hardware: what it runs on.
        adapter: folder of the adapter to go on from; None for a fresh one.
        reference: the policy training starts from, or the base without any adapter.
        device: `auto` takes a GPU if there is one.
    """

    base: str
    examples: Path
    output: Path
    loss: Loss
    seed: int
    training: Training
    hardware: Hardware = ONE_DEVICE
    adapter: Path | None = None
    reference: Literal["start", "base"] = "start"
    device: Literal["cpu", "auto"] = "auto"


@dataclass(frozen=True)
class Progress:
    """Figures at one optimizer step: means over the steps since the last, or over all validation examples.

    Attributes:
        kind: of which examples.
        step: optimizer steps done.
        epoch: passes over the examples done.
        loss: of preferences, plus α times the negative log-likelihood.
        reward_accuracy: share (0-1) of better and worse completions that the policy's scores order so too.
        reward_margin: mean score of better minus worse, a score being β·(log π − log π_ref).
        learning_rate: of this step; None for validation.
        gradient_norm: before it was scaled down; None for validation.
    """

    kind: Literal["training", "validation"]
    step: int
    epoch: float
    loss: float
    reward_accuracy: float
    reward_margin: float
    learning_rate: float | None = None
    gradient_norm: float | None = None

    @classmethod
    def of(cls, logged: Mapping[str, Any]) -> "Progress | None":
        """A row of the trainer's log; None for those that hold no loss."""
        kind: Literal["training", "validation"] = "validation" if "eval_loss" in logged else "training"
        at = "eval_" if kind == "validation" else ""
        if f"{at}loss" not in logged:
            return None
        return cls(
            kind=kind,
            step=int(logged["step"]),
            epoch=float(logged["epoch"]),
            loss=float(logged[f"{at}loss"]),
            reward_accuracy=float(logged[f"{at}rewards/accuracies"]),
            reward_margin=float(logged[f"{at}rewards/margins"]),
            learning_rate=None if at else float(logged["learning_rate"]),
            gradient_norm=None if at else float(logged["grad_norm"]),
        )

    def __str__(self) -> str:
        text = (
            f"{self.kind}: step {self.step}, epoch {self.epoch:.2f}, loss {self.loss:.4f}, "
            f"reward accuracy {self.reward_accuracy:.3f}, margin {self.reward_margin:.4f}"
        )
        if self.kind == "validation":
            return text
        return f"{text}, learning rate {self.learning_rate:.3g}, gradient norm {self.gradient_norm:.3g}"


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        job: hash of everything that decides the adapter: settings, and the content of examples and models.
        loss, reference: as in the job.
        start: sha256 of the weights it went on from; None for a fresh adapter.
        adapter: sha256 of the weights it ended with.
        trained, validated: examples (pairs or groups).
        left_out: reason → how many; see `preference_examples`.
        steps: optimizer steps in all.
        epochs: passes over the examples.
        warmup_steps: optimizer steps until the highest learning rate.
        resumed_from: step of the checkpoint that the last process went on from; 0 for the beginning.
        training, validation: the last figures of each kind; None where nothing validated.
        notes: what was done otherwise than asked, in words.
        device: cpu, or the GPU's name.
        devices: how many trained together.
        memory: what one of them was expected to need, and had.
        memory_peak: bytes that the first of them took at most: of a GPU by tensors, of the machine in all.
        seconds: of the last process.
        versions: of the libraries.
    """

    job: str
    loss: str
    reference: str
    start: str | None
    adapter: str
    trained: int
    validated: int
    left_out: Mapping[str, int]
    steps: int
    epochs: float
    warmup_steps: int
    resumed_from: int
    training: Progress | None
    validation: Progress | None
    notes: tuple[str, ...]
    device: str
    devices: int
    memory: Memory
    memory_peak: int
    seconds: float
    versions: Mapping[str, str]


Reporter: TypeAlias = Callable[[Progress], None]


def read_job(path: Path) -> TrainingJob:
    """The job of a JSON file.

    Raises:
        DeeperError: the file cannot be read, a name is unknown or missing, or a value does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeeperError(f"training job {path} cannot be read: {one_line(error)}") from error
    _refuse_unknown(given, TrainingJob, f"training job {path}")
    for part, kind in (("training", Training), ("hardware", Hardware)):
        _refuse_unknown(given.get(part, {}), kind, f"training job {path}: {part}")
    try:
        return TypeAdapter(TrainingJob).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DeeperError(f"training job {path}: {place}: {first['msg']}, got {first['input']!r}") from error


def _refuse_unknown(given: object, kind: type, place: str) -> None:
    if not isinstance(given, dict):
        raise DeeperError(f"{place}: expected names and values, got {type(given).__name__}")
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            raise DeeperError(f"{place}: {name!r} is unknown{hint}")


@dataclass(frozen=True)
class Plan:
    """How the examples become optimizer steps."""

    accumulation: int
    steps: int
    warmup_steps: int
    notes: tuple[str, ...]


def plan_steps(training: Training, examples: int, devices: int) -> Plan:
    """The steps that `examples` training examples make on so many devices.

    Warm-up takes half of all steps at most, or a small training would never reach its learning rate.

    Raises:
        DeeperError: the batch cannot be divided so, or a value that must be positive is not.
    """
    for name in ("batch_size", "examples_at_once", "epochs", "learning_rate", "lora_rank", "evaluate_every"):
        if getattr(training, name) <= 0:
            raise DeeperError(f"training.{name} is {getattr(training, name)}; it must be above 0")
    at_once = training.examples_at_once * devices
    if training.batch_size % at_once:
        raise DeeperError(
            f"training.batch_size {training.batch_size} cannot be divided by examples_at_once × devices = "
            f"{training.examples_at_once} × {devices} = {at_once}; choose a multiple of {at_once}, or other "
            "hardware.devices"
        )
    steps = math.ceil(training.epochs * math.ceil(examples / training.batch_size))
    wanted = math.ceil(training.warmup * steps) if training.warmup < 1 else int(training.warmup)
    warmup = min(wanted, steps // 2)
    notes = (f"warm-up of {wanted} steps cut to {warmup}, half of all {steps}",) if warmup < wanted else ()
    return Plan(training.batch_size // at_once, steps, warmup, notes)


def repeats(training: Training, counts: Mapping[str, int], devices: int) -> tuple[str, ...]:
    """What several devices take twice at the end of a pass, in words; one device takes everything once.

    Args:
        training: as in the job.
        counts: examples of each kind.
        devices: how many share them.
    """
    at_once = training.examples_at_once * devices
    again = {kind: -count % at_once if devices > 1 else 0 for kind, count in counts.items()}
    return tuple(
        f"each pass over {kind} takes {again[kind]} of {count} examples twice, so that "
        f"{devices} devices have as many"
        for kind, count in counts.items()
        if again[kind]
    )


# ---------------------------------------------------------------------------------------------- training


def train(job: TrainingJob, report: Reporter) -> TrainingReport:
    """Trains, unless the output folder holds the result of this very job already.

    The output folder gets `adapter/` (an ordinary PEFT adapter on the base; whole or not at all),
    `training_log.json` and, last of all, `report.json`.

    Args:
        job: what to do.
        report: told the figures as they come.

    Raises:
        DeeperError: fewer than two training examples; examples, base or adapter missing, damaged or not
            fitting each other; a loss that is no number; a full disk; not enough memory. A result from
            before stays as it was.
    """
    begun = time.monotonic()
    _refuse_missing(job)
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        with _sole_writer(job.output):
            identity = _identity(job)
            return _finished(job, identity) or _trained(job, identity, report, begun)
    except Exception as error:
        if _disk_is_full(error):
            free = shutil.disk_usage(job.output).free / 1e6
            raise DeeperError(
                f"no space to write in {job.output} ({free:.3g} MB are free): make room and start again; "
                "training goes on from its last checkpoint"
            ) from error
        if memory.ran_out(error):
            raise DeeperError(out_of_memory(job, one_line(error))) from error
        raise


def out_of_memory(job: TrainingJob, said: str) -> str:
    """What to tell about a training that ran out of memory: what was said, and the settings to change."""
    return f"out of memory ({said[:300]}); {memory.advice(job.training, job.hardware)}"


def _refuse_missing(job: TrainingJob) -> None:
    """Before anything is imported, which takes seconds."""
    if Path(job.base).is_absolute() and not Path(job.base).is_dir():
        raise DeeperError(f"base model {job.base}: there is no such folder")
    if not job.examples.is_file():
        raise DeeperError(f"examples {job.examples}: there is no such file")
    if job.adapter is not None and not job.adapter.is_dir():
        raise DeeperError(f"adapter {job.adapter}: there is no such folder")


def _trained(job: TrainingJob, identity: str, report: Reporter, begun: float) -> TrainingReport:
    _import_quickly()
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

    settings, devices = job.training, launching.world_size()
    gpu = job.device == "auto" and torch.cuda.is_available()
    half = gpu and settings.bf16
    dtype = torch.bfloat16 if half else torch.float32
    tokenizer = load_tokenizer(job.base)
    examples = _enough_examples(job, tokenizer)
    counts = {"training": len(examples.training), "validation": len(examples.validation)}
    plan = plan_steps(settings, counts["training"], devices)
    lora = lora_config(settings)
    expected = _expected_memory(job, examples, dtype, lora, gpu=gpu)
    base = load_base(job.base, dtype)
    folder = _checkpoint_folder(job, identity)
    trainer = trainer_class()(
        loss=job.loss,
        alpha=settings.sft_weight,
        report=lambda row: _tell(row, report),
        group_by_length=job.hardware.group_by_length,
        model=base,
        processing_class=tokenizer,
        train_dataset=as_dataset(examples.training),
        eval_dataset=as_dataset(examples.validation) if examples.validation else None,
        peft_config=lora,
        args=trainer_arguments(job, plan, folder, gpu=gpu, half=half, validates=bool(examples.validation)),
    )
    if job.adapter is not None:
        load_adapter(trainer.model, job.adapter, job.base)
    with_adapter = job.reference == "start"
    if job.hardware.precompute_reference:
        trainer.score_reference(with_adapter)
    else:
        trainer.keep_reference(with_adapter and job.adapter is not None)

    checkpoint = last_checkpoint(folder)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        weights = adapter_weights(trainer.model)
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise Diverged(f"the adapter's weights are no numbers after step {plan.steps}")
    except Diverged as error:
        shutil.rmtree(job.output / CHECKPOINTS, ignore_errors=True)
        raise DeeperError(
            f"training diverged: {error}; lower training.learning_rate (now {settings.learning_rate:g}) or "
            f"max_grad_norm (now {settings.max_grad_norm:g})"
        ) from error

    rows = [row for row in map(Progress.of, trainer.state.log_history) if row]
    last = {row.kind: row for row in rows}
    content = adapter_files(weights, trainer.model.peft_config["default"].to_dict(), job.base)
    done = TrainingReport(
        job=identity,
        loss=job.loss,
        reference=job.reference,
        start=_sha256(job.adapter / WEIGHTS) if job.adapter else None,
        adapter=hashlib.sha256(content[WEIGHTS]).hexdigest(),
        trained=counts["training"],
        validated=counts["validation"],
        left_out=examples.left_out,
        steps=plan.steps,
        epochs=settings.epochs,
        warmup_steps=plan.warmup_steps,
        resumed_from=checkpoint_step(checkpoint) if checkpoint else 0,
        training=last.get("training"),
        validation=last.get("validation"),
        notes=plan.notes + repeats(settings, counts, devices),
        device=torch.cuda.get_device_name() if gpu else "cpu",
        devices=devices,
        memory=expected,
        memory_peak=memory.peak(gpu=gpu),
        seconds=round(time.monotonic() - begun, 2),
        versions=_versions(),
    )
    if trainer.args.should_save:
        _publish(job.output, content, rows, done)
    return done


def _import_quickly() -> None:
    """Importing leaves little to collect, and a sixth of its time would go to looking for it."""
    gc.disable()
    trainer_class()
    gc.freeze()
    gc.enable()


def _enough_examples(job: TrainingJob, tokenizer: Any) -> Examples:
    groups = read_groups(job.examples, job.loss)
    examples = tokenized(groups, tokenizer, job.training.max_length, job.loss)
    if len(examples.training) < 2:
        raise DeeperError(
            f"{len(examples.training)} training examples in {job.examples}, at least 2 are needed: of "
            f"{len(groups)}, {len(examples.validation)} validate and {dict(examples.left_out) or 'none'} "
            "were left out; more users, or a recipe of smaller margins, give more"
        )
    return examples


def _expected_memory(job: TrainingJob, examples: Examples, dtype: Any, lora: Any, *, gpu: bool) -> Memory:
    """What a device is going to need; said, with a warning where it has less."""
    devices = launching.world_size()
    expected = memory.estimate(
        memory.meta_model(job.base, dtype, lora),
        job.training,
        job.hardware,
        packed=[example.packed for example in (*examples.training, *examples.validation)],
        fused=job.loss == "pairwise",
        devices=devices,
        available=memory.available(devices, gpu=gpu),
    )
    _LOG.info("%s", expected)
    if not expected.fits:
        advice = memory.advice(job.training, job.hardware)
        _LOG.warning("memory will probably not suffice: %s", advice)
    return expected


def as_dataset(examples: Sequence[Example]) -> Any:
    """The examples as the trainer takes them."""
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "prompt_ids": [example.prompt for example in examples],
            "completion_ids": [list(example.completions) for example in examples],
            "rewards": [list(example.rewards) for example in examples],
        }
    )


def lora_config(training: Training) -> Any:
    """PEFT's config of the adapter that is trained."""
    from peft import LoraConfig

    return LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def trainer_arguments(
    job: TrainingJob, plan: Plan, folder: Path, *, gpu: bool, half: bool, validates: bool
) -> Any:
    """TRL's arguments for a job.

    Args:
        job: what to do.
        plan: its optimizer steps.
        folder: for checkpoints.
        gpu: whether it runs on one.
        half: whether it computes in bfloat16.
        validates: whether there are validation examples.
    """
    from trl import DPOConfig

    settings = job.training
    return DPOConfig(
        output_dir=str(folder),
        seed=job.seed % 2**32,
        # the loss
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, settings.sft_weight],
        beta=settings.beta,
        max_length=None,  # what is too long was left out
        disable_dropout=False,
        # the steps
        max_steps=plan.steps,
        per_device_train_batch_size=settings.examples_at_once,
        per_device_eval_batch_size=settings.examples_at_once,
        gradient_accumulation_steps=plan.accumulation,
        optim="adamw_torch",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=plan.warmup_steps,
        weight_decay=0.0,
        max_grad_norm=settings.max_grad_norm,
        # the machine
        use_cpu=not gpu,
        bf16=half,
        gradient_checkpointing=job.hardware.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        **_sharding(job.hardware),
        dataloader_pin_memory=gpu,
        remove_unused_columns=False,
        # what is seen and kept of it
        logging_steps=math.ceil(plan.steps / LOGS_A_RUN),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=settings.evaluate_every,
        save_strategy="steps",
        save_steps=math.ceil(plan.steps / CHECKPOINTS_A_RUN),
        report_to="none",
        disable_tqdm=True,
    )


def _sharding(hardware: Hardware) -> dict[str, Any]:
    if not _is_sharded(hardware):
        return {}
    # The base has to be on every process to score the reference, so nothing is left for one to load alone.
    plan = {"version": 2, "reshard_after_forward": True, "cpu_ram_efficient_loading": False}
    return {"fsdp": True, "fsdp_config": plan}


def _is_sharded(hardware: Hardware) -> bool:
    return hardware.sharding == "fsdp" and launching.world_size() > 1


def _tell(row: Mapping[str, Any], report: Reporter) -> None:
    progress = Progress.of(row)
    if progress is not None:
        report(progress)


# ------------------------------------------------------------------------------------------- the output


def _publish(
    output: Path, adapter: Mapping[str, bytes], rows: Sequence[Progress], done: TrainingReport
) -> None:
    """Puts a finished training in place of whatever was there; `report.json`, last, says that it is whole."""
    partial = output / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / ADAPTER).mkdir(parents=True)
        for name, content in adapter.items():
            (partial / ADAPTER / name).write_bytes(content)
        for name, value in ((LOG, [asdict(row) for row in rows]), (REPORT, asdict(done))):
            (partial / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    (output / REPORT).unlink(missing_ok=True)
    shutil.rmtree(output / ADAPTER, ignore_errors=True)
    for name in (ADAPTER, LOG, REPORT):
        (partial / name).rename(output / name)
    partial.rmdir()
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)


def _finished(job: TrainingJob, identity: str) -> TrainingReport | None:
    """The report in the output folder, if it is of this job and its adapter still whole."""
    try:
        report = json.loads((job.output / REPORT).read_text(encoding="utf-8"))
        if report["job"] != identity or report["adapter"] != _sha256(job.output / ADAPTER / WEIGHTS):
            return None
        for kind in ("training", "validation"):
            report[kind] = Progress(**report[kind]) if report[kind] else None
        expected = Memory(**report["memory"])
        return TrainingReport(**{**report, "notes": tuple(report["notes"]), "memory": expected})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checkpoint_folder(job: TrainingJob, identity: str) -> Path:
    """Where this job's checkpoints lie; those of other jobs are removed.

    Sharded ones have a form of their own, which only a sharded training can read.
    """
    folder = job.output / CHECKPOINTS / f"{identity[:16]}{'-fsdp' if _is_sharded(job.hardware) else ''}"
    for other in folder.parent.glob("*") if launching.rank() == 0 else []:
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


@contextmanager
def _sole_writer(output: Path) -> Iterator[None]:
    """Waits until no other process trains in the folder: a run that was killed may have left one behind."""
    with (output / "lock").open("w") as lock:
        if launching.rank() == 0:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _identity(job: TrainingJob) -> str:
    """Hash of all that decides the adapter, by content, so that folders may be called anything.

    The number of devices is no part of it: a training that four began, two may go on with.
    """
    settings = {key: value for key, value in asdict(job).items() if key not in {"output", "hardware"}}
    settings |= job.hardware.identity()
    base = Path(job.base)
    settings["base"] = {"name": base.name, **_files(base)} if base.is_dir() else job.base
    settings["examples"] = _sha256(job.examples)
    settings["adapter"] = _files(job.adapter) if job.adapter else None
    settings["code"] = {"trainer": CODE_VERSION, **_versions()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}


def _files(folder: Path) -> dict[str, str]:
    """File → its size and a hash of its beginning: enough to tell models apart, and quick for large ones."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                beginning = hashlib.sha256(file.read(2**20)).hexdigest()
            found[path.relative_to(folder).as_posix()] = f"{path.stat().st_size} {beginning}"
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether a write failed for want of space; torch and safetensors raise errors of their own for it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}:
            return True
        if any(sign in str(error) for sign in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


# -------------------------------------------------------------------------------------------- as a command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job of a file, alone or under Dagster Pipes; the exit status is 1 for an error."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if len(given) != 1:
            raise DeeperError(
                "usage: python -m deeper_assets.engines.training.dpo_trainer CONFIG (a JSON file)"
            )
        _run(Path(given[0]))
    except DeeperError as error:
        # Under Pipes, whoever asked for the training says it; of several processes, who started them.
        if not (_under_pipes() or launching.is_one_of_several()):
            print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if launching.rank() == 0:
            print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _run(config: Path) -> None:
    """Reads the job, then trains it here or starts the processes that do.

    Raises:
        DeeperError: see `train`; under Pipes, and where several processes train, a file beside CONFIG says
            it too.
    """
    if _under_pipes() or launching.is_one_of_several():
        launching.end_with_parent()
    try:
        if launching.is_one_of_several() and launching.rank() > 0:
            _log_to(logging.NullHandler())  # the first process says it
            _train_in_file(config, lambda _: None)
        elif not launching.is_one_of_several() and (processes := _processes(config)) > 1:
            _launch(config, processes)
        elif _under_pipes():
            _train_under_pipes(config)
        else:
            _log_to(logging.StreamHandler())
            done = _train_in_file(config, lambda progress: print(progress, file=sys.stderr, flush=True))
            print(f"adapter {done.adapter[:12]} after {done.steps} steps", file=sys.stderr)
    except DeeperError as error:
        if _under_pipes() or launching.is_one_of_several():
            _leave_reason(config, error)
        raise


def _processes(config: Path) -> int:
    job = read_job(config)
    return launching.count_devices(job.hardware, job.device)


def _launch(config: Path, processes: int) -> None:
    """Trains in several processes.

    Raises:
        DeeperError: one of them failed; the reason it left behind, or how it ended.
    """
    job, reason = read_job(config), config.with_suffix(FAILURE)
    _refuse_missing(job)
    job.output.mkdir(parents=True, exist_ok=True)
    reason.unlink(missing_ok=True)
    with _sole_writer(job.output):
        pass  # until whoever trains there is done: processes that wait for each other do so for minutes only
    try:
        launching.launch("deeper_assets.engines.training.dpo_trainer", config, processes)
    except launching.Failed as error:
        if reason.exists():
            raise DeeperError(reason.read_text(encoding="utf-8")) from error
        if error.exit_code == -signal.SIGKILL:
            raise DeeperError(out_of_memory(job, KILLED)) from error
        raise DeeperError(f"training failed: {error}; what it said is on stderr") from error


def _train_in_file(config: Path, report: Reporter) -> TrainingReport:
    job = read_job(config)
    # Read by libraries when they are imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if Path(job.base).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not launching.is_one_of_several():  # one process, one GPU
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    warnings.filterwarnings("ignore")
    return train(job, report)


def _train_under_pipes(config: Path) -> None:
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        _log_to(*pipes.log.handlers)

        def report(progress: Progress) -> None:
            pipes.log.info(str(progress))
            pipes.report_custom_message(asdict(progress))

        try:
            done = _train_in_file(config, report)
        except DeeperError as error:
            pipes.log.error(str(error))
            raise
        pipes.report_custom_message({"kind": "report", **asdict(done)})


def _under_pipes() -> bool:
    return "DAGSTER_PIPES_CONTEXT" in os.environ


def _log_to(*handlers: logging.Handler) -> None:
    """What the trainer says besides figures goes there."""
    _LOG.setLevel(logging.INFO)
    _LOG.handlers[:] = handlers
    _LOG.propagate = False


def _leave_reason(config: Path, error: DeeperError) -> None:
    """The first reason stays: where several processes train, the others fail because that one did.

    A message of Pipes does not reach whoever waits for a process that fails.
    """
    with suppress(FileExistsError), config.with_suffix(FAILURE).open("x", encoding="utf-8") as file:
        file.write(str(error))


if __name__ == "__main__":
    exit_status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status)  # taken down with the interpreter, Triton (of vLLM) complains of leaks
