"""Tables as the paper prints them: MAE by domain, method and round (Tables 13–17), never without floors."""

import pandas as pd

from deeper_assets.method.errors import mae_by_round, paper_round_mae, with_macro_average

COLUMNS = ["domain", "method", "kind", "round", "users", "mae", "unreadable", "paper_mae"]


def mae_table(round_errors: pd.DataFrame, floors: pd.DataFrame) -> pd.DataFrame:
    """Methods and floors in one table, with a macro average over the domains.

    Args:
        round_errors: one row a user and round: domain, method, round, error (rating points; NaN unknown).
        floors: one row a domain, floor and round: domain, method, round, users, mae.

    Returns:
        COLUMNS; a domain's floors stand in it only where one of its methods was evaluated.
    """
    methods = mae_by_round(round_errors).assign(kind="method")
    floors = floors[floors["domain"].isin(methods["domain"])]
    floors = floors.assign(kind="floor", asked=floors["users"], unreadable=0.0)
    table = pd.concat([methods, floors], ignore_index=True)
    table = table.merge(paper_round_mae(), on=["domain", "method", "round"], how="left")
    return with_macro_average(table)[COLUMNS]
