"""TRL's DPOTrainer, taught whole groups and exact references.

What it changes in TRL: examples come in tokens, references as a column that is computed once (or from a copy
of the adapter without dropout); the loss is one of groups, of which a pair is the smallest; dropout depends
on the step alone, so that a training that goes on draws what an undisturbed one draws; means are weighted by
examples; examples of like length are computed together within an optimizer step, where TRL's grouping decides
which share one; a checkpoint counts once it is complete.

Lazy: it imports torch and TRL, which takes seconds, so it is itself imported only where a training begins.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import gather_object
from datasets import Dataset
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import use_adapter

from deeper_assets.engines.sampling.transformers_sampler import TransformersSampler
from deeper_assets.engines.training import launching
from deeper_assets.engines.training.batches import collate, log_probs
from deeper_assets.engines.training.examples import SOME, Example, Examples, packed_length
from deeper_assets.engines.training.failures import Diverged
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.losses import preference_loss
from deeper_assets.engines.training.output import COMPLETE, remove_others
from deeper_assets.engines.training.policies import (
    adapter_files,
    adapter_weights,
    load_adapter,
    lora_config,
)
from deeper_assets.engines.training.report import Endings, Progress, Reporter
from deeper_assets.engines.training.steps import Plan

CHECKPOINTS_A_RUN = 10
LOGS_A_RUN = 100


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # TRL's types are not followed
    """Trains an adapter on a base, once `take_reference` was called; checkpoints go to `folder`.

    Raises:
        DeeperError: the job's adapter cannot be loaded on the base; see `policies.load_adapter`.
    """

    model: Any
    optimizer: Any

    def __init__(
        self,
        job: TrainingJob,
        plan: Plan,
        examples: Examples,
        base: Any,
        tokenizer: Any,
        folder: Path,
        report: Reporter,
        *,
        gpu: bool,
    ) -> None:
        super().__init__(
            model=base,
            processing_class=tokenizer,
            peft_config=lora_config(job.training),
            train_dataset=_as_dataset(examples.training),
            eval_dataset=_as_dataset(examples.validation) if examples.validation else None,
            args=_arguments(job, plan, folder, gpu=gpu, validates=bool(examples.validation)),
        )
        if job.adapter is not None:
            load_adapter(self.model, job.adapter, job.base)
        self.precompute_ref_logps = True  # only now: TRL would compute them, and hash the whole model
        self._job = job
        self._report = report
        self._vocabulary = self.model.config.get_text_config().vocab_size
        self._reference_in_steps: Callable[[], Any] | None = None
        self._sizes: dict[str, list[int]] = {"train": [], "eval": []}
        self._micro = (0, 0)
        self.data_collator = partial(collate, pad_token_id=self.processing_class.pad_token_id)
        self.model.create_or_update_model_card = self.create_model_card
        self.remove_callback(PrinterCallback)
        self.add_callback(_LastStep())

    def trained_adapter(self, checkpoint: Path | None) -> dict[str, bytes]:
        """Trains, from a checkpoint if there is one, and returns the files of the adapter that comes out.

        Raises:
            Diverged: a loss or a weight is no number any more.
        """
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        weights = adapter_weights(self.model)
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise Diverged(f"the adapter's weights are no numbers after step {self.state.max_steps}")
        return adapter_files(weights, self.model.peft_config["default"].to_dict(), self._job.base)

    def endings(self, prompts: Sequence[str]) -> Endings:
        """Whether the policy's texts come to an end; every process asks, and is told the same."""
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            return self._expected_endings() if self.is_fsdp_enabled else self._written_endings(prompts)

    def _written_endings(self, prompts: Sequence[str]) -> Endings:
        sampler = TransformersSampler("trained", self._job.base, loaded=self.model.get_base_model())
        texts = [text for (text,) in sampler.sample(prompts, [[0]] * len(prompts), self._job.decoding)]
        return _endings(
            [float(text.finished) for text in texts], [text.tokens for text in texts], written=True
        )

    def _expected_endings(self) -> Endings:
        dataset = self.train_dataset if self.eval_dataset is None else self.eval_dataset
        end = self.processing_class.eos_token_id
        chances, lengths = [], []
        for row in dataset.select(range(min(len(dataset), SOME))):
            best = row["completion_ids"][row["rewards"].index(max(row["rewards"]))]
            length = best.index(end) if end in best else len(best) - 1
            alone = {"prompt_ids": row["prompt_ids"], "completion_ids": [best], "rewards": [0.0]}
            batch = self._prepare_inputs(self.data_collator([alone]))
            (logps,) = log_probs(self.model, batch, self._vocabulary)
            chances.append(logps[len(row["prompt_ids"]) - 1 + length].exp().item())
            lengths.append(length)
        return _endings(chances, lengths, written=False)

    # ---------------------------------------------------------------------------------- the reference

    def take_reference(self) -> None:
        """Makes the policy as it is now the reference: with its adapter, or as the base alone.

        Either all examples get a column of its log-probabilities, without dropout, or every step computes
        them; then a copy of the adapter is kept.
        """
        with_adapter = self._job.adapter is not None and self._job.reference == "start"
        if self._job.hardware.precompute_reference:
            self._score_reference(nullcontext if with_adapter else lambda: _without_adapter(self.model))
        elif with_adapter:
            now = get_peft_model_state_dict(self.model, save_embedding_layers=False)
            # Without dropout, which would be drawn in training and make the reference noisy.
            self.model.add_adapter("reference", replace(self.model.peft_config["default"], lora_dropout=0.0))
            set_peft_model_state_dict(self.model, now, adapter_name="reference")
            self._reference_in_steps = lambda: use_adapter(self.model, "reference")
        else:
            self._reference_in_steps = lambda: _without_adapter(self.model)

    def _score_reference(self, reference: Callable[[], Any]) -> None:
        if self.is_fsdp_enabled:  # sharded already now: training would do it, but the whole may not fit
            self.create_optimizer()
            self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
            self.model_wrapped = self.model
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast(), reference():
            self.train_dataset: Any = self._scored(self.train_dataset)
            if self.eval_dataset is not None:
                self.eval_dataset: Any = self._scored(self.eval_dataset)
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # the last layers stayed gathered: no checkpoint could be read into them

    def _scored(self, dataset: Any) -> Any:
        lengths = [len(row["prompt_ids"]) + max(map(len, row["completion_ids"])) for row in dataset]
        order = sorted(range(len(dataset)), key=lambda place: -lengths[place])
        processes = self.accelerator.num_processes
        # As many for each process: those of a sharded model compute only together.
        shared = (order * processes)[: math.ceil(len(order) / processes) * processes]
        own = shared[self.accelerator.process_index :: processes]
        at_once = self.args.per_device_eval_batch_size
        scores: dict[int, list[float]] = {}
        for start in range(0, len(own), at_once):
            places = own[start : start + at_once]
            batch = self._prepare_inputs(self.data_collator([dataset[place] for place in places]))
            logps = log_probs(self.model, batch, self._vocabulary).sum(dim=1)
            of_groups = torch.split(logps, batch["mask"].sum(dim=1).tolist())
            scores |= {place: of.tolist() for place, of in zip(places, of_groups, strict=True)}
        for share in gather_object([scores]):
            scores |= share
        return dataset.add_column("reference", [scores[place] for place in range(len(dataset))])

    # ---------------------------------------------------------------------------------- a step

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._job.hardware.group_by_length:
            return super()._get_train_sampler(train_dataset)
        lengths = [packed_length(row["prompt_ids"], row["completion_ids"]) for row in self.train_dataset]
        return _LikeLengths(lengths, self._job.training.batch_size, self.args.seed)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:  # noqa: ARG002
        mode = "train" if self.model.training else "eval"
        rewards, mask = inputs["rewards"], inputs["mask"]
        if self._reference_in_steps is not None:
            with torch.no_grad(), self._reference_in_steps():
                logps = log_probs(self.model, inputs, self._vocabulary).sum(dim=1)
            inputs = {**inputs, "reference": torch.zeros_like(rewards).masked_scatter(mask, logps)}
        token_logps = log_probs(model, inputs, self._vocabulary)
        loss, accuracy, margin = preference_loss(
            token_logps, inputs, self._job.loss, self.beta, self._job.training.sft_weight
        )
        figures = {"rewards/accuracies": accuracy, "rewards/margins": margin}
        for name, values in (figures | {"loss": loss} if mode == "eval" else figures).items():
            self._metrics[mode][name].append(self.accelerator.gather(values).mean().item())
        self._sizes[mode].append(len(rewards))
        return loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One micro-batch, with dropout drawn for this step and place in it.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        step = self.state.global_step
        self._micro = (step, self._micro[1] + 1 if self._micro[0] == step else 0)
        drawn_for = (self.args.seed, *self._micro, self.accelerator.process_index)
        digest = hashlib.sha256(repr(drawn_for).encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not math.isfinite(loss.item()):
            raise Diverged(f"the loss is {loss.item()} at step {step + 1} of {self.state.max_steps}")
        return loss

    # ---------------------------------------------------------------------------------- what is seen and kept

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A row of the log: means over the examples since the last one.

        Raises:
            Diverged: a validation loss is NaN or infinite.
        """
        mode = "train" if self.model.training else "eval"
        sizes = self._sizes[mode]
        for name, values in self._metrics[mode].items():
            total = sum(size * value for size, value in zip(sizes, values, strict=True))
            self._metrics[mode][name] = [total / sum(sizes)]
        sizes.clear()
        super().log(logs, start_time)
        if not math.isfinite(logs.get("eval_loss", 0)):
            raise Diverged(f"the validation loss is {logs['eval_loss']} after step {self.state.global_step}")
        progress = Progress.of(self.state.log_history[-1])
        if progress is not None and self.is_world_process_zero():
            self._report(progress)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except Exception:
            shutil.rmtree(checkpoint, ignore_errors=True)  # a full disk needs the room
            raise
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (checkpoint / COMPLETE).touch()
            remove_others(checkpoint)

    # ---------------------------------------------------------------------------------- left out of TRL's

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # in tokens already

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """No card: nobody reads those of checkpoints."""

    def floating_point_ops(self, _: Any) -> int:
        """Not counted: that takes longer than a step of a tiny policy."""
        return 0

    def _send_telemetry(self) -> None:
        pass


def _endings(ended: Sequence[float], tokens: Sequence[int], *, written: bool) -> Endings:
    return Endings(len(ended), sum(ended) / len(ended), sum(tokens) / len(tokens), written)


class _LastStep(TrainerCallback):  # type: ignore[misc]
    """Logs and validates after the last step too, whatever its number."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"


class _LikeLengths(torch.utils.data.Sampler[int]):
    """A random order in which the examples of each optimizer step stand by length, the longest first.

    Every step has the examples that it would have without.
    """

    def __init__(self, lengths: Sequence[int], a_step: int, seed: int) -> None:
        self._lengths, self._a_step = lengths, a_step
        self._order = SeedableRandomSampler(lengths, data_seed=seed)

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(self._order)
        for start in range(0, len(order), self._a_step):
            step = order[start : start + self._a_step]
            yield from sorted(step, key=lambda place: -self._lengths[place])


@contextmanager
def _without_adapter(model: Any) -> Iterator[None]:
    """The base alone, while the adapter's weights are still set to train.

    PEFT sets them not to, but FSDP2 takes from the first pass what trains, and in which type; and then
    fails in half precision when there are gradients after all.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with model.disable_adapter():
        for weight in trained:
            weight.requires_grad_(True)
        yield


def _as_dataset(examples: Sequence[Example]) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt_ids": [example.prompt for example in examples],
            "completion_ids": [list(example.completions) for example in examples],
            "rewards": [list(example.rewards) for example in examples],
        }
    )


def _arguments(job: TrainingJob, plan: Plan, folder: Path, *, gpu: bool, validates: bool) -> DPOConfig:
    settings, sharding = job.training, {}
    if launching.is_sharded(job.hardware):
        # The base has to be on every process to score the reference: nothing is left for one to load alone.
        shards = {"version": 2, "reshard_after_forward": True, "cpu_ram_efficient_loading": False}
        sharding = {"fsdp": True, "fsdp_config": shards}
    return DPOConfig(
        output_dir=str(folder),
        seed=job.seed % 2**32,
        # the loss
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
        bf16=gpu and settings.bf16,
        gradient_checkpointing=job.hardware.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        **sharding,
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
