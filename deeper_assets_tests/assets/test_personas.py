import pandas as pd

from deeper_assets.assets.personas import with_placings


def test_the_metadata_of_predictions_count_how_ratings_found_their_items() -> None:
    rows = pd.DataFrame(
        {"predicted": [4, 3, 1, None, 5], "placed": ["name", "position", "name", None, "name"]}
    )
    metadata = {name: value.value for name, value in with_placings(rows).metadata.items()}
    assert metadata == {
        "share unreadable": 0.2,
        "placed by name": 3,
        "placed by position": 1,
        "placed by correction": 0,
    }
