"""What the stand-in's silence decides: `python -m deeper_assets_tests.benchmarks.unsaid --home HOME`.

Plays the rounds of a finished home again, with every method in it, where none of the stand-in's personas
leaves unsaid how high somebody marks, where a share of UNSAID does, and where all do. The policies are those
of the home: they were trained with UNSAID. Nothing in the home is changed. Prints the macro average of the
last round.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from deeper_assets.engines.offline.chat_model import UNSAID, OfflineChatModel
from deeper_assets.layers import load_settings
from deeper_assets.method.errors import mae_by_round, window_errors
from deeper_assets.method.initial import initial_personas, initial_predictions
from deeper_assets.method.rounds import ROUNDS, play_rounds
from deeper_assets.method.updates import PROMPT_METHODS, by_policy
from deeper_assets.resources import Experiment
from deeper_assets.values import Values


def last_round(experiment: Experiment, unsaid: float) -> "pd.Series[float]":
    """The macro-averaged error of every method at the last round, rating points."""
    values, warehouse = Values(experiment), experiment.warehouse
    chat = replace(experiment.chat, model=OfflineChatModel(unsaid))
    samplers = {
        method: experiment.policy_sampler(warehouse.load("policies", {"method": [method]}))
        for method in experiment.methods
        if method not in PROMPT_METHODS
    }
    rows = []
    for name in experiment.evaluated:
        domain = experiment.domain(name)
        windows = warehouse.load("rating_windows", {"domain": [name]})
        windows = windows[windows["split"] == "eval"]
        first = initial_personas(windows, domain, chat)
        guesses = initial_predictions(windows, first, domain, chat)
        for method in experiment.methods:
            writing = values.writing({"domain": name, "method": method})
            update = PROMPT_METHODS.get(method) or by_policy(samplers[method], writing)
            played = play_rounds(windows, first, guesses, method, update, domain, chat)
            keys = ["domain", "method", "user_id", "round", "window"]
            rows.append(window_errors(played.predictions, windows, keys))
    table = mae_by_round(pd.concat(rows))
    return table[table["round"] == ROUNDS].groupby("method")["mae"].mean()


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="a home that `deeper run` has finished")
    home = parser.parse_args().home.resolve()
    experiment = Experiment(home, load_settings(home))
    table = pd.DataFrame({unsaid: last_round(experiment, unsaid) for unsaid in (0.0, UNSAID, 1.0)})
    print("macro average of the last round, by the share of personas that leave the habit unsaid")
    print(table.sort_values(UNSAID).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
