"""Several processes train together: started by `accelerate launch`, ended together, and heard as one.

The process that starts them computes nothing. When one of them fails, the others are ended; when it is itself
killed, they notice and end.
"""

import json
import os
import threading
import time
from pathlib import Path

from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.method.exceptions import DeeperError

PARENT = "TRAINING_PARENT"
"""Environment variable of the process that starts a training's process: its number."""


class Failed(Exception):
    """One of the processes failed; `exit_code` is the first one's, negative for a signal."""

    def __init__(self, rank: int, exit_code: int) -> None:
        super().__init__(f"process {rank} ended with exit code {exit_code}")
        self.exit_code = exit_code


def is_one_of_several() -> bool:
    """Whether this process was started to train together with others."""
    return "LOCAL_RANK" in os.environ


def rank() -> int:
    """The number of this process among those that train together; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those on this machine, and so of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_sharded(hardware: Hardware) -> bool:
    """Whether the policy's weights are spread over the processes that train together."""
    return hardware.sharding == "fsdp" and world_size() > 1


def count_devices(hardware: Hardware, device: str) -> int:
    """How many processes to start.

    Raises:
        DeeperError: there are fewer GPUs than asked for, or a value that makes no sense.
    """
    if hardware.devices != "all" and hardware.devices < 1:
        raise DeeperError(f"hardware.devices is {hardware.devices}; it must be 1 or more, or all")
    if hardware.devices == 1:  # without a look at the machine, for which torch would be imported
        return 1
    import torch

    gpus = torch.cuda.device_count() if device == "auto" else 0
    if hardware.sharding == "fsdp" and not gpus:
        raise DeeperError("hardware.sharding is fsdp, but there is no GPU; set it to none")
    if hardware.devices == "all":
        return max(gpus, 1)
    if 0 < gpus < hardware.devices:
        raise DeeperError(f"hardware.devices is {hardware.devices}, but there are {gpus} GPUs; set it to all")
    return hardware.devices


def launch(module: str, config: Path, processes: int) -> None:
    """Runs `python -m module config` in so many processes that train together, and waits for them.

    Raises:
        Failed: one of them did.
        KeyboardInterrupt: this process was asked to stop.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # A file of its own, or accelerate would read the user's, which may ask for anything.
    choices = config.with_suffix(".accelerate.json")
    asked = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": processes,
        "gpu_ids": "all",
        "mixed_precision": "no",  # the trainer says what it computes in
    }
    choices.write_text(json.dumps(asked), encoding="utf-8")
    options = ["--config_file", str(choices), "--multi_gpu", "--main_process_port", "0"]
    os.environ[PARENT] = str(os.getpid())
    arguments = launch_command_parser().parse_args([*options, "--module", module, str(config)])
    try:
        launch_command(arguments)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        raise Failed(number, failure.exitcode) from error
    except SignalException as error:  # the processes have been ended by then
        raise KeyboardInterrupt from error
    finally:
        choices.unlink()


def end_with_parent() -> None:
    """From now on ends this process soon after the one that started it, however that came to its end.

    That may have been before this process could look, so it is told by `PARENT` who it was.
    """
    parent = int(os.environ.get(PARENT, os.getppid()))
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
