"""Which unit of work is begun next where policies fill a GPU."""

from concurrent.futures import Future
from pathlib import Path

import pytest
from dagster import MultiPartitionKey

from deeper_assets.resources import Experiment
from deeper_assets.running import Unit, Worker, _Crew
from deeper_assets.settings import Settings


def evaluation(domain: str, method: str) -> Unit:
    return Unit("evaluation", MultiPartitionKey({"domain": domain, "method": method}), ("round_errors",))


def sampling(domain: str) -> Unit:
    return Unit("iteration_1", MultiPartitionKey({"domain": domain, "update": "refinement"}), ("rewards_1",))


TRAINING = Unit("training_1", "paper", ("model_1",))
PROMPTED = evaluation("book", "full_regen")


def crew(folder: Path, *at_work: Unit, policy: str = "some/model", engine: str = "auto") -> _Crew:
    settings = Settings.model_validate({"policy": policy, "sampler": {"engine": engine}, "processes": 3})
    found = _Crew(Worker(Experiment(folder, settings)))
    for unit in at_work:
        found.at_work[Future()] = unit, list(unit.tables)
    return found


@pytest.mark.parametrize("busy", [sampling("book"), TRAINING, evaluation("book", "frozen_policy")])
def test_one_unit_at_a_time_uses_the_gpu_and_others_go_on_beside_it(tmp_path: Path, busy: Unit) -> None:
    due = [sampling("recipe"), TRAINING, evaluation("book", "deeper"), PROMPTED]
    assert crew(tmp_path).choose(due) == due[0]
    assert crew(tmp_path, busy).choose(due) == PROMPTED
    assert crew(tmp_path, busy).choose(due[:3]) is None
    assert crew(tmp_path, PROMPTED).choose(due) == due[0]


@pytest.mark.parametrize("values", [{"policy": "offline"}, {"engine": "vllm_server"}])
def test_where_no_gpu_is_filled_the_first_is_begun(tmp_path: Path, values: dict[str, str]) -> None:
    assert crew(tmp_path, sampling("book"), **values).choose([TRAINING, PROMPTED]) == TRAINING
    full = [sampling("book"), sampling("recipe"), TRAINING]
    assert crew(tmp_path, *full, **values).choose([PROMPTED]) is None
