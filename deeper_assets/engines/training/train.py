"""Trains a policy on preferences: checks the job, plans it, trains, and publishes an adapter and its report.

A killed training goes on from its last checkpoint when it is started again, and comes to the same bytes as an
undisturbed one; on another number of devices, to the same but for rounding.

The loss (Section 3.3) is sigmoid DPO plus α times the negative log-likelihood of the chosen persona, on a
LoRA adapter. Departs from the paper: `lipo` and `softmax` look at all candidates of a context (`losses`), and
the reference of iteration 2, which the paper does not state, is the policy it starts from, or the base. Its
log-probabilities are computed without dropout, by default once, before training: TRL would keep a copy of the
adapter whose own dropout makes the reference noisy.
"""

import gc
import hashlib
import logging
import shutil
import time
from collections.abc import Sequence
from typing import Any

from deeper_assets.engines.training import failures, launching, memory, output
from deeper_assets.engines.training.examples import Examples, Group, read_groups, some_prompts, tokenized
from deeper_assets.engines.training.job import (
    TrainingJob,
    file_hash,
    identity,
    library_versions,
    refuse_missing,
)
from deeper_assets.engines.training.report import Progress, Reporter, TrainingReport
from deeper_assets.engines.training.steps import plan_steps, repeats
from deeper_assets.method.exceptions import DeeperError

LOG = logging.getLogger(__package__)
"""What is told besides figures."""


def train(job: TrainingJob, report: Reporter) -> TrainingReport:
    """Trains, unless the output folder holds the result of this very job already.

    The output folder gets `adapter/` (an ordinary PEFT adapter on the base; whole or not at all),
    `training_log.json` and, last of all, `report.json`. `report` gets the figures as they come.

    Raises:
        DeeperError: fewer than two training examples; examples, base or adapter missing, damaged or not
            fitting each other; a loss that is no number; a full disk; not enough memory. A result from
            before stays as it was.
    """
    begun = time.monotonic()
    refuse_missing(job)
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        with output.sole_writer(job.output):
            name = identity(job)
            return output.finished(job.output, name) or _trained(job, name, report, begun)
    except Exception as error:
        if message := failures.explained(error, job):
            raise DeeperError(message) from error
        raise


def _trained(job: TrainingJob, name: str, report: Reporter, begun: float) -> TrainingReport:
    _import_quickly()
    import torch

    from deeper_assets.engines.training import policies
    from deeper_assets.engines.training.trainer import PreferenceTrainer

    devices = launching.world_size()
    gpu = job.device == "auto" and torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and job.training.bf16 else torch.float32
    tokenizer = policies.load_tokenizer(job.base)
    groups = read_groups(job.examples, job.loss)
    examples = _enough_examples(job, groups, tokenizer)
    counts = {"training": len(examples.training), "validation": len(examples.validation)}
    plan = plan_steps(job.training, counts["training"], devices)
    expected = _expected_memory(job, examples, policies.meta_model(job.base, dtype, job.training), gpu=gpu)
    base = policies.load_base(job.base, dtype)
    folder = output.checkpoint_folder(job, name)
    trainer = PreferenceTrainer(job, plan, examples, base, tokenizer, folder, report, gpu=gpu)
    trainer.take_reference()
    checkpoint = output.last_checkpoint(folder)
    try:
        adapter = trainer.trained_adapter(checkpoint)
    except failures.Diverged:
        shutil.rmtree(job.output / output.CHECKPOINTS, ignore_errors=True)
        raise
    endings = trainer.endings(some_prompts(groups))
    LOG.info("%.1f%% of %d texts come to an end", 100 * endings.ended, endings.texts)
    rows = [row for row in map(Progress.of, trainer.state.log_history) if row]
    last = {row.kind: row for row in rows}
    done = TrainingReport(
        job=name,
        loss=job.loss,
        reference=job.reference,
        start=file_hash(job.adapter / output.WEIGHTS) if job.adapter else None,
        adapter=hashlib.sha256(adapter[output.WEIGHTS]).hexdigest(),
        trained=counts["training"],
        validated=counts["validation"],
        left_out=examples.left_out,
        steps=plan.steps,
        epochs=job.training.epochs,
        warmup_steps=plan.warmup_steps,
        resumed_from=output.checkpoint_step(checkpoint) if checkpoint else 0,
        training=last.get("training"),
        validation=last.get("validation"),
        endings=endings,
        notes=plan.notes + repeats(job.training, counts, devices),
        device=torch.cuda.get_device_name() if gpu else "cpu",
        devices=devices,
        memory=expected,
        memory_peak=memory.peak(gpu=gpu),
        seconds=round(time.monotonic() - begun, 2),
        versions=library_versions(),
    )
    if trainer.args.should_save:
        output.publish(job.output, adapter, rows, done)
    return done


def _import_quickly() -> None:
    """Importing leaves little to collect, and a sixth of its time would go to looking for it."""
    gc.disable()
    from deeper_assets.engines.training import trainer  # noqa: F401

    gc.freeze()
    gc.enable()
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _enough_examples(job: TrainingJob, groups: Sequence[Group], tokenizer: Any) -> Examples:
    examples = tokenized(groups, tokenizer, job.training.max_length, job.loss)
    if len(examples.training) < 2:
        raise DeeperError(
            f"{len(examples.training)} training examples in {job.examples}, at least 2 are needed: of "
            f"{len(groups)}, {len(examples.validation)} validate and {dict(examples.left_out) or 'none'} "
            "were left out; more users, or a recipe of smaller margins, give more"
        )
    return examples


def _expected_memory(job: TrainingJob, examples: Examples, model: Any, *, gpu: bool) -> memory.Memory:
    """What a device is going to need; told, with a warning where it has less."""
    devices = launching.world_size()
    expected = memory.estimate(
        model,
        job.training,
        job.hardware,
        packed=[example.packed for example in (*examples.training, *examples.validation)],
        devices=devices,
        available=memory.available(devices, gpu=gpu),
    )
    LOG.info("%s", expected)
    if not expected.fits:
        LOG.warning("memory will probably not suffice: %s", failures.memory_advice(job))
    return expected
