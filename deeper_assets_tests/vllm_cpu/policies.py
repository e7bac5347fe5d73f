"""Adapters of chance, and prompts to sample from."""

import tempfile
from pathlib import Path

from deeper_assets.estimating_events import windows_of_source
from deeper_assets.layers import load_settings
from deeper_assets.method.contexts import initial_contexts
from deeper_assets.method.initial import initial_personas, initial_predictions
from deeper_assets.resources import Experiment


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
    domain = experiment.domain(name)
    windows = windows_of_source(experiment, name)
    personas = initial_personas(windows, domain, experiment.chat)
    predictions = initial_predictions(windows, personas, domain, experiment.chat)
    prompts = experiment.chat.prompts
    initial = initial_contexts(windows, personas, predictions, domain, prompts, ["refinement"])
    return [str(prompt) for prompt in initial.contexts["prompt"].dropna()]
