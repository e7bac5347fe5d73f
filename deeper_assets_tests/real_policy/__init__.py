"""A policy that writes real text, for tests and benchmarks: SmolLM2-135M-Instruct. `setup.sh` fetches it."""

import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "DEEPER_TEST_REAL_POLICY"
"""Environment variable with the folder that `setup.sh` has made."""

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def real_policy() -> Path | None:
    """The folder of the policy, as any policy of one's own: made once, in half a minute; None if not fetched.

    Weights are 32-bit floats (538 MB), as a CPU computes in, so both samplers compute the same.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    policy = Path(given).resolve() / "policy"
    if not policy.is_dir():
        temporary = Path(tempfile.mkdtemp(dir=policy.parent))
        _save(policy.parent, temporary)
        try:
            temporary.rename(policy)
        except OSError:  # another process was faster
            shutil.rmtree(temporary)
    return policy


def _save(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    config = read.config
    del config.quantization_config  # the weights are no longer; transformers refuses to save those that were
    plain = type(read)(config)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(target)
