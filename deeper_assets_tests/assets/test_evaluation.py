"""The tables of an evaluation of nobody."""

from deeper_assets.assets.evaluation import comparison_table, floors_table, mae_table
from deeper_assets.method.domains import FIVE_STARS
from deeper_assets.method.errors import Evaluated
from deeper_assets.resources import Experiment


def test_tables_of_nobody_are_empty(experiment: Experiment) -> None:
    names = ("round_errors", "control_errors", "ceiling_errors", "rating_windows")
    nothing = {name: experiment.warehouse.load(name) for name in names}
    scales, evaluated = {"podcasts": FIVE_STARS}, Evaluated(("podcasts",), ("deeper",))
    floors = floors_table(nothing["rating_windows"], scales)
    assert floors.empty
    made = mae_table(**nothing, floors_table=floors, scales=scales, evaluated=evaluated, seed=0)
    assert made.value.empty
    assert set(made.metadata) == {"MAE by round"}
    compared = comparison_table(**nothing, scales=scales, evaluated=evaluated, seed=0)
    assert compared.value.empty
