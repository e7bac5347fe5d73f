"""Policies to sample from: the tiny one in a shape that vLLM takes on a CPU, and adapters of chance on it."""

import math
import tempfile
from pathlib import Path
from typing import Any

from deeper_assets.engines.offline.base_policy import SHIPPED
from deeper_assets.method.contexts import initial_contexts
from deeper_assets.method.initial import initial_personas, initial_predictions
from deeper_assets.method.windows import cut_windows, reject_ratings
from deeper_assets.resources import Experiment
from deeper_assets.settings import load_settings

HEAD = 32
"""The narrowest attention head of vLLM's kernels for CPUs; the tiny policy has 24."""


def save_wide_policy(folder: Path) -> Path:
    """Saves the tiny policy with heads of 32: it computes the same, up to the last bits of a float.

    What is new is zero. Queries grow by √(32/24), because attention divides by the root of the head's width;
    the base of the rotations becomes its (32/24)th power, which leaves each pair its frequency.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    narrow = AutoModelForCausalLM.from_pretrained(SHIPPED)
    width = narrow.config.head_dim
    halves = torch.cat([torch.arange(width // 2), HEAD // 2 + torch.arange(width // 2)])

    def widened(rows: Any) -> Any:
        heads = rows.view(-1, width, rows.shape[1])
        wide = rows.new_zeros(len(heads), HEAD, rows.shape[1])
        wide[:, halves] = heads
        return wide.flatten(0, 1)

    weights = narrow.state_dict()
    for name, weight in weights.items():
        if name.endswith("q_proj.weight"):
            weights[name] = widened(weight * math.sqrt(HEAD / width))
        elif name.endswith(("k_proj.weight", "v_proj.weight")):
            weights[name] = widened(weight)
        elif name.endswith("o_proj.weight"):
            weights[name] = widened(weight.T.contiguous()).T.contiguous()
    config = AutoConfig.from_pretrained(SHIPPED)
    config.head_dim = HEAD
    rotations = config.rope_parameters
    config.rope_parameters = {**rotations, "rope_theta": rotations["rope_theta"] ** (HEAD / width)}
    wide = AutoModelForCausalLM.from_config(config)
    wide.load_state_dict(weights)
    wide.generation_config = narrow.generation_config
    wide.save_pretrained(folder)
    AutoTokenizer.from_pretrained(SHIPPED).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, seed: int, rank: int = 4) -> Path:
    """Saves a LoRA adapter of random weights, large enough to be heard."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def refinement_prompts(domains: tuple[str, ...] = ("book", "movielens")) -> list[str]:
    """Forty prompts a domain as the offline profile makes them from generated ratings, (S0, O1)."""
    with tempfile.TemporaryDirectory() as home:
        experiment = Experiment(Path(home), load_settings(Path(home), {"profile": "offline"}))
        return [prompt for name in domains for prompt in _prompts(experiment, name)]


def _prompts(experiment: Experiment, name: str) -> list[str]:
    import pandas as pd

    domain, target = experiment.domain(name), experiment.scratch()
    experiment.source(name).write_raw_ratings(target)
    raw = pd.read_parquet(target)
    rejected = reject_ratings(raw, domain, experiment.rules)
    windows = cut_windows(raw, rejected, domain, experiment.rules, experiment.user_sampling(domain.name))
    personas = initial_personas(windows, domain, experiment.chat)
    predictions = initial_predictions(windows, personas, domain, experiment.chat)
    prompts = experiment.chat.prompts
    initial = initial_contexts(windows, personas, predictions, domain, prompts, ["refinement"])
    return [str(prompt) for prompt in initial.contexts["prompt"].dropna()]
