"""TRL's DPOTrainer, taught whole groups and exact references; and the policies it starts from.

What it changes in TRL: examples come in tokens, references as a column that is computed once (or from a copy
of the adapter without dropout); the loss of a group where one is asked for; dropout that depends on the step
alone, so that a training that goes on draws what an undisturbed one draws; means weighted by examples;
examples of like length computed together within an optimizer step, where TRL's grouping decides which share
one; a checkpoint counts once it is complete.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from deeper_assets.engines.training.preference_examples import GroupCollator, Loss, PairCollator
from deeper_assets.engines.training.preference_losses import (
    accuracy_and_margin,
    best_places,
    lipo_loss,
    softmax_loss,
)
from deeper_assets.engines.training.shared_prompts import SharedPrompts
from deeper_assets.method.exceptions import DeeperError, one_line

WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""The two files of a PEFT adapter."""

COMPLETE = "complete"
"""File that a checkpoint gets last."""

_SCALING = ("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


class Diverged(Exception):
    """A loss or weight that is no number any more; `str()` says where."""


@cache
def trainer_class() -> type[Any]:
    """The subclass of TRL's DPOTrainer; a function, because TRL takes seconds to import."""
    import torch
    from accelerate.data_loader import SeedableRandomSampler
    from accelerate.utils import gather_object
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from torch.distributed.fsdp import FSDPModule
    from transformers import PrinterCallback, TrainerCallback
    from trl import DPOTrainer
    from trl.trainer.utils import use_adapter

    class LastStep(TrainerCallback):  # type: ignore[misc]
        """Logs and validates after the last step too, whatever its number."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps:
                control.should_log = True
                control.should_evaluate = args.eval_strategy != "no"

    class LikeLengths(torch.utils.data.Sampler[int]):
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

    class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # TRL's types are not followed
        """Trains on a dataset of prompt_ids, completion_ids and rewards.

        `score_reference` or `keep_reference` comes first.

        Args:
            loss: pairwise is TRL's own, of groups of two.
            alpha: of the negative log-likelihood of the best completion.
            report: told every row of the log.
            group_by_length: whether examples of a step that have like lengths are computed together.
            options: TRL's.
        """

        model: Any
        optimizer: Any

        def __init__(
            self,
            loss: Loss,
            alpha: float,
            report: Callable[[Mapping[str, Any]], None],
            group_by_length: bool,
            **options: Any,
        ) -> None:
            super().__init__(**options)
            self.precompute_ref_logps = True  # only now: TRL would compute them, and hash the whole model
            self._group_loss = {"lipo": lipo_loss, "softmax": softmax_loss}.get(loss)
            self._alpha = alpha
            self._vocabulary = self.model.config.get_text_config().vocab_size
            self._report = report
            self._group_by_length = group_by_length
            self._reference: Callable[[], AbstractContextManager[Any]] | None = None
            self._sizes: dict[str, list[int]] = {"train": [], "eval": []}
            self._micro = (0, 0)
            collator = PairCollator if self._group_loss is None else GroupCollator
            self.data_collator = collator(self.processing_class.pad_token_id)
            self.model.create_or_update_model_card = self.create_model_card
            self.remove_callback(PrinterCallback)
            self.add_callback(LastStep())

        def score_reference(self, with_adapter: bool) -> None:
            """Adds to all examples the log-probabilities that the policy gives them now, without dropout.

            Args:
                with_adapter: whether its adapter takes part.
            """
            if self.is_fsdp_enabled:  # sharded already now: training would do it, but the whole may not fit
                self.create_optimizer()
                self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
                self.model_wrapped = self.model
            self.train_dataset: Any = self._with_reference(self.train_dataset, with_adapter)
            if self.eval_dataset is not None:
                self.eval_dataset: Any = self._with_reference(self.eval_dataset, with_adapter)
            for module in self.model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()  # the last layers stayed gathered: no checkpoint could be read into them

        def keep_reference(self, with_adapter: bool) -> None:
            """Has every step compute what the policy gives the examples now, instead of all before the first.

            Args:
                with_adapter: whether its adapter takes part; a copy of it is kept then.
            """
            self._reference = partial(without_adapter, self.model)
            if with_adapter:
                name = "reference"
                now = get_peft_model_state_dict(self.model, save_embedding_layers=False)
                # Without dropout, which would be drawn in training and make the reference noisy.
                self.model.add_adapter(name, replace(self.model.peft_config["default"], lora_dropout=0.0))
                set_peft_model_state_dict(self.model, now, adapter_name=name)
                self._reference = partial(use_adapter, self.model, name)

        def _with_reference(self, dataset: Any, with_adapter: bool) -> Any:
            lengths = _lengths(dataset)
            order = sorted(range(len(dataset)), key=lambda place: -lengths[place])
            processes = self.accelerator.num_processes
            # As many for each process: those of a sharded model compute only together.
            shared = (order * processes)[: math.ceil(len(order) / processes) * processes]
            own = shared[self.accelerator.process_index :: processes]
            at_once = self.args.per_device_eval_batch_size
            collate = GroupCollator(self.processing_class.pad_token_id)
            found: dict[int, list[float]] = {}
            self.model.eval()
            with (
                torch.no_grad(),
                self.accelerator.autocast(),
                nullcontext() if with_adapter else without_adapter(self.model),
            ):
                for start in range(0, len(own), at_once):
                    places = own[start : start + at_once]
                    batch = self._prepare_inputs(collate([dataset[place] for place in places]))
                    logps = SharedPrompts(self.model).log_probs(batch, self._vocabulary).sum(dim=1)
                    counts = batch["mask"].sum(dim=1).tolist()
                    for place, scores in zip(places, logps.split(counts), strict=True):
                        found[place] = scores.tolist()
            for share in gather_object([found]):
                found |= share
            return dataset.add_column("reference", [found[place] for place in range(len(dataset))])

        def _reference_of(self, batch: Mapping[str, Any]) -> dict[str, Any]:
            """What `score_reference` would have put in the batch."""
            if self._reference is None:
                return {}
            with torch.no_grad(), self._reference():
                logps = SharedPrompts(self.model).log_probs(batch, self._vocabulary).sum(dim=1)
            if self._group_loss is None:
                chosen, rejected = logps.chunk(2)
                return {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
            return {"reference": torch.zeros_like(batch["rewards"]).masked_scatter(batch["mask"], logps)}

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if not self._group_by_length:
                return super()._get_train_sampler(train_dataset)
            args = self.args
            a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            return LikeLengths(_packed_lengths(self.train_dataset), a_step, args.seed)

        def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
            mode = "train" if self.model.training else "eval"
            inputs = {**inputs, **self._reference_of(inputs)}
            if self._group_loss is None:
                loss = super()._compute_loss(SharedPrompts(model), inputs, return_outputs)
                self._sizes[mode].append(len(inputs["ref_chosen_logps"]))
            else:
                loss = self._loss_of_groups(self._group_loss, model, inputs, mode)
                self._sizes[mode].append(len(inputs["rewards"]))
            if mode == "eval":
                self._metrics[mode]["loss"].append(self.accelerator.gather(loss).mean().item())
            return loss

        def _loss_of_groups(
            self, group_loss: Callable[..., Any], model: Any, batch: dict[str, Any], mode: str
        ) -> Any:
            rewards, mask = batch["rewards"], batch["mask"]
            token_logps = SharedPrompts(model).log_probs(batch, self._vocabulary)
            logps = torch.zeros_like(rewards).masked_scatter(mask, token_logps.sum(dim=1))
            scores = self.beta * (logps - batch["reference"]).masked_fill(~mask, 0)
            accuracy, margin = accuracy_and_margin(scores.detach(), rewards, mask)
            for name, values in (("rewards/accuracies", accuracy), ("rewards/margins", margin)):
                self._metrics[mode][name].append(self.accelerator.gather(values).mean().item())
            rows = (mask.flatten().cumsum(0) - 1).view_as(mask).gather(1, best_places(rewards, mask))
            best = rows.squeeze(1)
            tokens = batch["packed_source"][best] >= 0
            likelihood = token_logps[best][tokens].mean()  # over tokens, as in TRL's "sft"
            return group_loss(scores, rewards, mask).mean() - self._alpha * likelihood

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            """One micro-batch, with dropout drawn for this step and place in it.

            Raises:
                Diverged: the loss is NaN or infinite.
            """
            step = self.state.global_step
            self._micro = (step, self._micro[1] + 1 if self._micro[0] == step else 0)
            identity = (self.args.seed, *self._micro, self.accelerator.process_index)
            digest = hashlib.sha256(repr(identity).encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
            loss = super().training_step(model, inputs, num_items_in_batch)
            if not math.isfinite(loss.item()):
                raise Diverged(f"the loss is {loss.item()} at step {step + 1} of {self.state.max_steps}")
            return loss

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """A row of the log: means over the examples since the last one.

            Raises:
                Diverged: a validation loss is NaN or infinite.
            """
            mode = "train" if self.model.training else "eval"
            sizes = self._sizes[mode]
            for name, values in self._metrics[mode].items():
                if len(values) == len(sizes):
                    total = sum(size * value for size, value in zip(sizes, values, strict=True))
                    self._metrics[mode][name] = [total / sum(sizes)]
            sizes.clear()
            super().log(logs, start_time)
            if not math.isfinite(logs.get("eval_loss", 0)):
                raise Diverged(
                    f"the validation loss is {logs['eval_loss']} after step {self.state.global_step}"
                )
            if self.is_world_process_zero():
                self._report(self.state.log_history[-1])

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder = Path(self.args.output_dir)
            checkpoint = folder / f"checkpoint-{self.state.global_step}"
            try:
                super()._save_checkpoint(model, trial)
            except Exception:
                shutil.rmtree(checkpoint, ignore_errors=True)  # a full disk needs the room
                raise
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                (checkpoint / COMPLETE).touch()
                remove_checkpoints(folder, but=checkpoint)

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # in tokens already

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """No card: nobody reads those of checkpoints."""

        def floating_point_ops(self, _: Any) -> int:
            """Not counted: that takes longer than a step of a tiny policy."""
            return 0

        def _send_telemetry(self) -> None:
            pass

    return PreferenceTrainer


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """The base alone, while the adapter's weights are still set to train.

    PEFT sets them not to, but FSDP2 takes from the first pass what trains, and in which type; and then
    fails in half precision when there are gradients after all.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with model.disable_adapter():
        for weight in trained:
            weight.requires_grad_(True)
        yield


def _lengths(dataset: Any) -> list[int]:
    """Tokens of each example, by its longest completion."""
    return [len(row["prompt_ids"]) + max(map(len, row["completion_ids"])) for row in dataset]


def _packed_lengths(dataset: Any) -> list[int]:
    """Tokens of each example once `pack` has put its completions behind its prompt, up to a constant."""
    return [len(row["prompt_ids"]) + sum(len(ids) + 1 for ids in row["completion_ids"]) for row in dataset]


# ---------------------------------------------------------------------------------------------- policies


def load_tokenizer(base: str) -> Any:
    """The base's tokenizer, with a chat template and a padding token.

    Raises:
        DeeperError: it is missing or damaged, or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, **_local(base))
    except Exception as error:
        raise DeeperError(f"tokenizer of base model {base} cannot be loaded: {one_line(error)}") from error
    if tokenizer.chat_template is None:
        raise DeeperError(f"base model {base} has no chat template; choose an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(base: str, dtype: Any) -> Any:
    """The base model in `dtype`.

    Raises:
        DeeperError: it is missing or damaged, or lacks weights.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, output_loading_info=True, **_local(base)
        )
    except Exception as error:
        raise DeeperError(f"base model {base} cannot be loaded: {one_line(error)}") from error
    if loaded["missing_keys"]:  # transformers would draw them at random
        raise DeeperError(f"base model {base} lacks the weights {sorted(loaded['missing_keys'])[0]!r}")
    return model


def load_adapter(model: Any, folder: Path, base: str) -> None:
    """Gives the model's fresh adapter the weights of one from before, to be trained on.

    Args:
        model: a PeftModel with a LoRA adapter named default.
        folder: of the adapter from before.
        base: what the model is called in messages.

    Raises:
        DeeperError: the adapter is missing or damaged, scales otherwise than the fresh one (rank, alpha), or
            was made for another base.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise DeeperError(f"adapter {folder} cannot be loaded: {one_line(error)}") from error
    fresh = model.peft_config["default"].to_dict()
    for name in _SCALING:
        if config.get(name, fresh[name]) != fresh[name]:
            raise DeeperError(
                f"adapter {folder} has {name} {config[name]!r}, the job asks for {fresh[name]!r}: go on with "
                "the values it was trained with, or start from a fresh adapter"
            )
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name in sorted(expected.keys() | weights.keys()):
        ours, theirs = (list(of[name].shape) if name in of else None for of in (expected, weights))
        if ours != theirs:
            raise DeeperError(
                f"adapter {folder} does not fit base model {base}: {name} is {theirs or 'missing'} in the "
                f"adapter and {ours or 'missing'} on the base; use the base it was trained on"
            )
    set_peft_model_state_dict(model, weights, adapter_name="default")


def adapter_weights(model: Any) -> dict[str, Any]:
    """The weights of the model's adapter by PEFT's names, whole also where the model is sharded.

    Of a sharded model every process has to ask.
    """
    from peft import get_peft_model_state_dict
    from torch.distributed.tensor import DTensor

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in weights.items()
    }


def adapter_files(weights: Mapping[str, Any], config: Mapping[str, Any], base: str) -> dict[str, bytes]:
    """File name → content of an ordinary PEFT adapter: the same bytes for the same weights, wherever made.

    Args:
        weights: of the adapter, by PEFT's names.
        config: of the adapter; `base_model_name_or_path` becomes the base folder's name without its path.
        base: folder or hub name of the base model.
    """
    from safetensors.torch import save

    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    name = Path(base).name if Path(base).is_dir() else base
    plain = {**config, "base_model_name_or_path": name, "inference_mode": True}
    text = json.dumps(plain, indent=2, sort_keys=True, default=sorted)  # what JSON lacks here are sets
    return {WEIGHTS: save(tensors, metadata={"format": "pt"}), ADAPTER_CONFIG: f"{text}\n".encode()}


def _local(base: str) -> dict[str, bool]:
    return {"local_files_only": True} if Path(base).is_dir() else {}


# ------------------------------------------------------------------------------------------- checkpoints


def last_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the most steps; None where there is none."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """After how many optimizer steps it was saved."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def remove_checkpoints(folder: Path, but: Path) -> None:
    """Removes every checkpoint, also half-written ones, but one."""
    for path in folder.glob("checkpoint-*"):
        if path != but:
            shutil.rmtree(path)
