"""The policies that training starts from and ends in: a base, its tokenizer, and an adapter on it.

Lazy: it imports torch, so it is itself imported only where a training begins.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from deeper_assets.engines.training.output import ADAPTER_CONFIG, WEIGHTS
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.method.recipes import Training

_SCALING = ("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


def lora_config(training: Training) -> Any:
    """PEFT's config of the adapter that is trained."""
    return LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def load_tokenizer(base: str) -> Any:
    """The base's tokenizer, with a chat template and a padding token.

    Raises:
        DeeperError: it is missing or damaged, or has no chat template.
    """
    with _loading(f"tokenizer of base model {base}"):
        tokenizer = AutoTokenizer.from_pretrained(base, **_local(base))
    if tokenizer.chat_template is None:
        raise DeeperError(f"base model {base} has no chat template; choose an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(base: str, dtype: torch.dtype) -> Any:
    """The base model in `dtype`.

    Raises:
        DeeperError: it is missing or damaged, or lacks weights.
    """
    with _loading(f"base model {base}"):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, output_loading_info=True, **_local(base)
        )
    if loaded["missing_keys"]:  # transformers would draw them at random
        raise DeeperError(f"base model {base} lacks the weights {sorted(loaded['missing_keys'])[0]!r}")
    return model


def meta_model(base: str, dtype: torch.dtype, training: Training) -> Any:
    """The base with a fresh adapter as shapes and types alone, from the base's config.

    Raises:
        DeeperError: the config is missing or damaged.
    """
    with _loading(f"base model {base}"):
        config = AutoConfig.from_pretrained(base, **_local(base))
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
            return get_peft_model(model, lora_config(training))


def load_adapter(model: Any, folder: Path, base: str) -> None:
    """Gives the fresh LoRA adapter `default` of a PeftModel the weights of one from before.

    Raises:
        DeeperError: the adapter is missing or damaged, scales otherwise than the fresh one (rank, alpha), or
            was made for another base.
    """
    with _loading(f"adapter {folder}"):
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
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
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in weights.items()
    }


def adapter_files(weights: Mapping[str, Any], config: Mapping[str, Any], base: str) -> dict[str, bytes]:
    """File name → content of an ordinary PEFT adapter: the same bytes for the same weights, wherever made.

    So `base_model_name_or_path` becomes the base folder's name without its path.
    """
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    name = Path(base).name if Path(base).is_dir() else base
    plain = {**config, "base_model_name_or_path": name, "inference_mode": True}
    text = json.dumps(plain, indent=2, sort_keys=True, default=sorted)  # what JSON lacks here are sets
    return {WEIGHTS: save(tensors, metadata={"format": "pt"}), ADAPTER_CONFIG: f"{text}\n".encode()}


@contextmanager
def _loading(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # libraries raise anything
        raise DeeperError(f"{what} cannot be loaded: {one_line(error)}") from error


def _local(base: str) -> dict[str, bool]:
    return {"local_files_only": True} if Path(base).is_dir() else {}
