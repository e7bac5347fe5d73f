"""Original data sets in the settings: which domains they are of, and who takes part."""

from pathlib import Path

import pytest
import yaml

from deeper_assets.layers import load_settings
from deeper_assets.method.domains import PAPER_DOMAINS
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.paper_users import PAPER
from deeper_assets.resources import Experiment
from deeper_assets.sources.originals import OriginalSource
from deeper_assets.sources.published import PublishedSource

NAMES = [domain.name for domain in PAPER_DOMAINS]


def experiment(home: Path, **flags: object) -> Experiment:
    return Experiment(home, load_settings(home, flags))


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    (folder / "ml-20m").mkdir(parents=True)
    (folder / "ml-20m" / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4,1\n")
    (folder / "ml-20m" / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    (folder / "Automotive_5.json.gz").touch()
    return folder


def test_domains_whose_files_are_there_are_evaluated_and_train(tmp_path: Path, downloads: Path) -> None:
    here = experiment(tmp_path, downloads=downloads)
    assert here.evaluated == here.domains_in_force == ["movielens", "automotive"]
    assert here.training_domains == ["movielens"]
    assert not any(map(here.is_generated, NAMES))
    films = here.domain("movielens")
    source = here.source("movielens")
    assert source == OriginalSource(films, "movielens", downloads / "ml-20m" / "ratings.csv")
    missing = experiment(tmp_path, downloads=downloads, evaluate=["book"])
    assert missing.evaluated == ["book"]
    with pytest.raises(
        DeeperError, match=r"Books_5\.json does not exist; expected the ratings of domain 'book'"
    ):
        missing.source("book").identity()


def test_the_published_files_serve_the_other_domains(tmp_path: Path, downloads: Path) -> None:
    here = experiment(tmp_path, downloads=downloads, data=tmp_path)
    assert here.evaluated == NAMES
    assert isinstance(here.source("movielens"), OriginalSource)
    assert isinstance(here.source("book"), PublishedSource)


def test_a_folder_without_original_files_is_an_error(tmp_path: Path) -> None:
    here = experiment(tmp_path, downloads=tmp_path / "nowhere")
    with pytest.raises(
        DeeperError, match=r"nowhere holds no original file .*; expected RAW_interactions\.csv, Books_5"
    ):
        _ = here.evaluated


def test_a_domain_of_ones_own_in_a_published_format(tmp_path: Path) -> None:
    scale = {"lowest": 1, "highest": 5, "step": 1}
    own = {"item_type": "game", "scale": scale, "file": "Video_Games.json.gz", "format": "amazon"}
    profile = tmp_path / "mine" / "games.yaml"
    profile.parent.mkdir()
    profile.write_text(
        yaml.safe_dump({"extends": "offline", "domains": {"games": {**own, "refresh": "manual"}}})
    )
    here = experiment(tmp_path, profile=str(profile))
    source = here.source("games")
    assert source == OriginalSource(
        here.domain("games"), "amazon", profile.with_name("Video_Games.json.gz"), refresh="manual"
    )
    before = {**source.settings(), "files": {"Video_Games.json.gz": "as it was"}}
    assert source.identity_since(before) == before
    with pytest.raises(DeeperError, match="does not exist"):
        source.identity_since({**before, "format": "food"})
    assert not here.is_generated("games")


def test_as_many_users_as_the_paper_has(tmp_path: Path) -> None:
    scale = {"lowest": 1, "highest": 5, "step": 1}
    own = {"item_type": "game", "scale": scale, "file": "a.json", "format": "amazon"}
    here = experiment(tmp_path, train_users="paper", eval_users=7, domains={"games": own})
    for name, paper in PAPER.items():
        sampling = here.user_sampling(name)
        assert (sampling.train_users, sampling.eval_users) == (paper.users["train"], 7)
    assert here.user_sampling("games").train_users is None
    paper = experiment(tmp_path, profile="paper").user_sampling("grocery")
    assert (paper.train_users, paper.eval_users) == (0, 236)
