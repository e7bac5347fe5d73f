"""Settings: layers, and errors that name the place and the way out."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deeper_assets.layers import load_settings, record_settings, recorded_settings
from deeper_assets.method.domains import PAPER_DOMAINS
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import RECIPES, Training
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings

OWN_DOMAIN = {
    "item_type": "podcast",
    "scale": {"lowest": 1, "highest": 5, "step": 1},
    "columns": {"user": "u", "item": "i", "rating": "r"},
    "file": "ratings.csv",
}


def write(path: Path, **values: object) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_later_layers_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = write(tmp_path / "mine.yaml", extends="offline", eval_users=11, train_users=12, asks=4, seed=5)
    record_settings(tmp_path, {"profile": str(profile), "eval_users": 21, "train_users": 22, "asks": 6})
    monkeypatch.setenv("DEEPER_TRAIN_USERS", "31")
    monkeypatch.setenv("DEEPER_ASKS", "7")
    settings = load_settings(tmp_path, {"asks": 9})
    # seed: profile; eval_users: recorded; train_users: environment; asks: flag; persona_words: offline.yaml
    assert (settings.seed, settings.eval_users, settings.train_users, settings.asks) == (5, 21, 31, 9)
    assert settings.persona_words == 80


def test_values_within_training_and_decoding_are_merged_layer_by_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = write(
        tmp_path / "mine.yaml",
        extends="offline",
        training={"beta": 0.3, "lora_rank": 4, "epochs": 9},
        candidate_decoding={"top_p": 0.9},
    )
    (tmp_path / "settings.yaml").write_text("training: {lora_rank: 5, epochs: 8}\n")
    monkeypatch.setenv("DEEPER_TRAINING", '{"epochs": 7}')
    monkeypatch.setenv("DEEPER_EVALUATION_DECODING", '{"temperature": 0.5}')
    offline = load_settings(tmp_path / "another home")
    monkeypatch.setenv("DEEPER_PROFILE", str(profile))
    settings = load_settings(tmp_path, {"training": {"batch_size": 6}})
    training = settings.training
    # beta: profile; lora_rank: recorded; epochs: environment; batch_size: flag; the rest: offline.yaml
    assert (training.beta, training.lora_rank, training.epochs, training.batch_size) == (0.3, 5, 7, 6)
    assert training.learning_rate == offline.training.learning_rate != Training().learning_rate
    assert settings.candidate_decoding == replace(offline.candidate_decoding, top_p=0.9)
    assert settings.evaluation_decoding.temperature == 0.5
    assert settings.evaluation_decoding.max_new_tokens == settings.candidate_decoding.max_new_tokens


def test_the_defaults_are_the_papers() -> None:
    settings = Settings()
    assert settings.candidates == 15
    assert settings.candidate_decoding == Decoding(
        temperature=1.0, top_p=0.4, repetition_penalty=1.1, max_new_tokens=1024
    )
    assert settings.evaluation_decoding.temperature == 0
    assert settings.training == Training(
        beta=0.2,
        sft_weight=0.1,
        lora_rank=16,
        lora_alpha=32,
        lora_dropout=0.2,
        max_length=2048,
        batch_size=128,
        learning_rate=5e-6,
        warmup=250,
        epochs=4,
        max_grad_norm=1.0,
        evaluate_every=100,
        validation_share=0.1,
        bf16=True,
    )
    assert settings.train_recipes == ["balanced", "paper"]


def test_the_papers_profile_says_what_the_defaults_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPER_PROFILE", "paper")
    settings, defaults = load_settings(tmp_path), Settings()
    for name in ("training", "candidate_decoding", "evaluation_decoding", "candidates", "persona_words"):
        assert getattr(settings, name) == getattr(defaults, name), name
    assert (settings.train_users, settings.eval_users) == ("paper", "paper")
    assert settings.policy == "meta-llama/Llama-3.1-8B-Instruct"


def test_a_recipe_of_ones_own_is_a_line(tmp_path: Path) -> None:
    own = {
        "bold": {"margin_1": 0.3},
        "near": {"like": "paper", "weights": [1, 0, 0], "rejected_at_most": None},
    }
    settings = load_settings(tmp_path, {"recipes": own, "train_recipes": ["near"]})
    assert set(settings.all_recipes) == {*RECIPES, "bold", "near"}
    assert settings.all_recipes["bold"] == replace(RECIPES["balanced"], margin_1=0.3)
    near = replace(RECIPES["paper"], weights=(1.0, 0.0, 0.0), rejected_at_most=None)
    assert settings.all_recipes["near"] == near
    assert settings.all_recipes["paper"] == RECIPES["paper"]


def test_no_recipe_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_TRAIN_RECIPES", "[]")
    assert load_settings(tmp_path).train_recipes == []


def test_all_means_every_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPER_TRAIN_USERS", "all")
    settings = load_settings(tmp_path, {"eval_users": "all"})
    assert settings.eval_users is None
    assert settings.train_users is None


def test_the_evaluated_domains_are_named_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluated(flags: dict[str, object]) -> list[str]:
        return Experiment(tmp_path, load_settings(tmp_path, flags)).evaluated

    every = [domain.name for domain in PAPER_DOMAINS]
    assert evaluated({}) == every
    record_settings(tmp_path, {"evaluate": ["grocery", "book"]})
    assert evaluated({}) == ["book", "grocery"]
    assert evaluated({"evaluate": "all"}) == every
    monkeypatch.setenv("DEEPER_EVALUATE", '["automotive"]')
    assert evaluated({}) == ["automotive"]


def test_domains_of_ones_own_are_alone_unless_settings_say_otherwise(tmp_path: Path) -> None:
    every = [domain.name for domain in PAPER_DOMAINS]
    seen = [domain.name for domain in PAPER_DOMAINS if domain.seen]
    unseen = {**OWN_DOMAIN, "seen": False}

    def chosen(own: dict[str, object], **given: object) -> tuple[list[str], list[str]]:
        here = Experiment(tmp_path, Settings(domains=own, **given))
        return here.training_domains, here.evaluated

    assert chosen({}) == (seen, every)
    assert chosen({"p": OWN_DOMAIN}) == (["p"], ["p"])
    assert chosen({"p": OWN_DOMAIN, "q": unseen}) == (["p"], ["p", "q"])
    assert chosen({"q": unseen}) == (seen, ["q"])  # somebody has to train
    assert chosen({"p": OWN_DOMAIN}, evaluate="all") == (["p"], [*every, "p"])
    assert chosen({"p": OWN_DOMAIN}, training_domains="All") == ([*seen, "p"], ["p"])
    assert chosen({"p": OWN_DOMAIN}, evaluate="book", training_domains="p,book") == (["book", "p"], ["book"])
    with pytest.raises(DeeperError, match="training_domains: 'q' only evaluates"):
        chosen({"q": unseen}, training_domains=["q"])


def test_domains_are_in_force_that_are_evaluated_or_train_a_recipe(tmp_path: Path) -> None:
    given = {"evaluate": ["grocery"], "training_domains": ["recipe", "book"]}
    assert Experiment(tmp_path, Settings(**given)).domains_in_force == ["recipe", "book", "grocery"]
    assert Experiment(tmp_path, Settings(**given, train_recipes=[])).domains_in_force == ["grocery"]


def test_recording_adds_to_what_was_recorded(tmp_path: Path) -> None:
    record_settings(tmp_path, {"eval_users": 3})
    record_settings(tmp_path, {"data": tmp_path / "x"})
    assert recorded_settings(tmp_path) == {"eval_users": 3, "data": str(tmp_path / "x")}


def test_paths_in_a_profile_are_meant_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    profile = write(folder / "mine.yaml", data="../ratings", domains={"podcast": OWN_DOMAIN})
    settings = load_settings(tmp_path / "home", {"profile": str(profile)})
    assert settings.data == tmp_path / "ratings"
    assert settings.domains["podcast"].file == folder / "ratings.csv"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"eval_user": 3}, "command line: 'eval_user' is no setting; did you mean 'eval_users'?"),
        (
            {"eval_users": 0},
            "command line: setting eval_users = 0: Input should be greater than or equal to 1",
        ),
        ({"windows_at_least": 8}, "settings: windows_at_least 8 is more than windows_at_most 7"),
        (
            {"profile": "ofline"},
            "profile 'ofline' is neither built in (local, offline, paper) nor a file; "
            "did you mean 'offline'?",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "scale": {"lowest": 5, "highest": 1, "step": 1}}}},
            "command line: setting domains.p.scale: lowest 5 must lie below highest 1",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "scale": {"lowest": 1, "highest": 5, "step": 0}}}},
            "command line: setting domains.p.scale: step 0 must lie above 0",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "scale": {"lowest": 1, "highest": 5}}}},
            "command line: setting domains.p.scale.step: Field required",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "scale": {"lowest": 1, "highest": "five", "step": 1}}}},
            "command line: setting domains.p.scale.highest = 'five': Input should be a valid number",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "columns": {**OWN_DOMAIN["columns"], "titel": "t"}}}},
            "command line: setting domains.p.columns.titel: there is no such setting",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "columns": {"user": "u", "item": "i"}}}},
            "command line: setting domains.p: name columns.rating; or where nobody rated, say by marks",
        ),
        ({"domains": {"p": {**OWN_DOMAIN, "query": "select 1"}}}, "give either a file or a query"),
        (
            {"domains": {"p": {**OWN_DOMAIN, "format": "amazon"}}},
            "give either columns or, for a file that its",
        ),
        ({"domains": {"p": {**OWN_DOMAIN, "columns": None}}}, "give either columns or, for a file that its"),
        (
            {"domains": {"p": {**OWN_DOMAIN, "columns": None, "format": "netflix"}}},
            "domains.p.format",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "file": None, "query": "q", "columns": None, "format": "food"}}},
            "a format says how a file is written; a query needs columns",
        ),
        ({"domains": {"p": {**OWN_DOMAIN, "file": None}}}, "give either a file or a query"),
        (
            {"domains": {"p": {**OWN_DOMAIN, "file": None, "query": "q", "database": "x", "dsn_env": "X"}}},
            "not of both",
        ),
        (
            {"domains": {"p": {**OWN_DOMAIN, "database": "x"}}},
            "a file needs neither",
        ),
        ({"train_users": True}, "command line: setting train_users: expected a number, not yes or no"),
        ({"training": {"epochs": True}}, "setting training.epochs: expected a number, not yes or no"),
        (
            {"domains": {"p": {**OWN_DOMAIN, "scale": {"lowest": False, "highest": 5, "step": 1}}}},
            "setting domains.p.scale.lowest: expected a number, not yes or no",
        ),
        ({"recipes": {"bold": {"weights": [True, 1, 1]}}}, "recipes: bold: expected numbers, not yes or no"),
        ({"recipes": {"bold": {"like": ["paper"]}}}, "like ['paper'] is no built-in recipe"),
        (
            {"recipes": {"bold": {"margin_1": float("nan")}}},
            "recipes: bold: margin_1 = nan: Input should be a finite number",
        ),
        ({"max_cost_usd": float("inf")}, "setting max_cost_usd = inf: Input should be a finite number"),
        ({"sampler": {"keep_loaded": float("nan")}}, "keep_loaded = nan: Input should be a finite number"),
        ({"training": {"beta": float("inf")}}, "setting training.beta = inf: Input should be a finite"),
        ({"training": {"epochs": -1}}, "settings: training.epochs is -1.0; it must not be negative"),
        ({"training": {"lora_rank": 0}}, "settings: training.lora_rank is 0; it must be above 0"),
        *(
            ({name: 10**12}, f"setting {name} = 1000000000000: Input should be less than or equal to")
            for name in ("synthetic_users", "candidates", "training_seeds", "processes")
        ),
        ({"seed": 10**30}, "command line: seed: the number has more than 18 digits"),
        ({"re_evaluation_cron": "banana"}, "re_evaluation_cron = 'banana': expected a cron schedule such as"),
        ({"domains": {"all": OWN_DOMAIN}}, "domains: 'all' means every domain; give yours another name"),
        (
            {"domains": {"book": OWN_DOMAIN}},
            "domains: 'book' is one of the paper's; give your own another name",
        ),
        *(
            (
                {setting: {name: value}},
                f"settings: {setting}: {name[:60]!r} is no name; use lower-case letters, digits and "
                "underscores, a letter first, 40 at most",
            )
            for setting, value in (("domains", OWN_DOMAIN), ("recipes", {}))
            for name in (
                "a|b",
                "a,b",
                "a\nb",
                "..",
                "a/b",
                "a'b",
                "Book",
                "bücher",
                "-h",
                "",
                "1st",
                "x" * 41,
            )
        ),
        ({"evaluate": ["boks"]}, "settings: evaluate: 'boks' is no domain; did you mean 'book'?"),
        ({"evaluate": []}, "command line: setting evaluate = []: List should have at least 1 item"),
        (
            {"training_domains": ["grocry"]},
            "training_domains: 'grocry' is no domain; did you mean 'grocery'?",
        ),
        (
            {"train_recipes": ["balancd"]},
            "settings: train_recipes: 'balancd' is no recipe; did you mean 'balanced'?",
        ),
        (
            {"recipes": {"bold": {"margin": 0.3}}},
            "settings: recipes: bold: 'margin' is no part of a recipe; did you mean 'margin_2'?",
        ),
        (
            {"recipes": {"bold": {"like": "papr"}}},
            "settings: recipes: bold: like 'papr' is no built-in recipe; did you mean 'paper'?",
        ),
        (
            {"recipes": {"paper": {"margin_1": 0.3}}},
            "settings: recipes: 'paper' is built in; give your own another name",
        ),
        (
            {"recipes": {"mine_seed_2": {}}},
            "settings: recipes: 'mine_seed_2' reads like one training of another recipe; give yours another",
        ),
        (
            {"recipes": {"My recipe": {}}},
            "'My recipe' is no name; use lower-case letters, digits and underscores",
        ),
        (
            {"recipes": {"bold": {"loss": "pairs"}}},
            "settings: recipes: bold: loss = 'pairs': Input should be 'pairwise', 'lipo' or 'softmax'",
        ),
        (
            {"training": {"learning_rat": 1}},
            "command line: training: 'learning_rat' is no setting; did you mean 'learning_rate'?",
        ),
        (
            {"hardware": {"shardin": "fsdp"}},
            "command line: hardware: 'shardin' is no setting; did you mean 'sharding'?",
        ),
        (
            {"candidate_decoding": {"topp": 1}},
            "command line: candidate_decoding: 'topp' is no setting; did you mean 'top_p'?",
        ),
        (
            {"chat": {"base_ulr": "x"}},
            "command line: chat: 'base_ulr' is no setting; did you mean 'base_url'?",
        ),
        (
            {"sampler": {"engine": "vlm"}},
            "command line: setting sampler.engine = 'vlm': Input should be 'auto', 'transformers' or 'vllm'",
        ),
        (
            {"candidate_decoding": {"top_p": 0}},
            "command line: setting candidate_decoding: top_p = 0: it must be above 0, and 1 at most",
        ),
        (
            {"candidate_decoding": {"top_p": 1.5}},
            "command line: setting candidate_decoding: top_p = 1.5: it must be above 0, and 1 at most",
        ),
        (
            {"evaluation_decoding": {"temperature": -1}},
            "command line: setting evaluation_decoding: temperature = -1: it must be 0 or more",
        ),
        (
            {"candidate_decoding": {"repetition_penalty": 0}},
            "command line: setting candidate_decoding: repetition_penalty = 0: it must be above 0",
        ),
        (
            {"candidate_decoding": {"max_new_tokens": 0}},
            "command line: setting candidate_decoding: max_new_tokens = 0: it must be 1 or more",
        ),
        (
            {"candidate_decoding": {"temperature": "warm"}},
            "command line: setting candidate_decoding.temperature = 'warm': Input should be a valid number",
        ),
        (
            {"chat": {"tries": 0}},
            "command line: setting chat.tries = 0: Input should be greater than or equal to 1",
        ),
        (
            {"chat": {"prices": {"input": -1, "output": 1}}},
            "command line: setting chat.prices.input = -1: Input should be greater than or equal to 0",
        ),
        (
            {"chat": {"prices": {"input": 1, "output": 1, "batch_share": 2}}},
            "command line: setting chat.prices.batch_share = 2: Input should be less than or equal to 1",
        ),
        (
            {"chat": {"prices": {"input": 1}}},
            "command line: setting chat.prices.output: Field required",
        ),
        (
            {"chat": {"prices": {"input": 1, "output": 1, "cached": 1}}},
            "command line: setting chat.prices.cached: there is no such setting",
        ),
        (
            {"training": 3},
            "command line: setting training = 3: Input should be a dictionary or an instance of Training",
        ),
        (
            {"training": {"epochs": "many"}},
            "command line: setting training.epochs = 'many': Input should be a valid number",
        ),
    ],
)
def test_errors_name_place_value_and_way_out(tmp_path: Path, flags: dict[str, object], message: str) -> None:
    with pytest.raises(DeeperError) as error:
        load_settings(tmp_path, flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_layer_of_an_error_is_where_that_part_was_set(tmp_path: Path) -> None:
    profile = write(tmp_path / "mine.yaml", chat={"tries": 0})
    with pytest.raises(DeeperError, match=r"mine\.yaml: setting chat\.tries = 0"):
        load_settings(tmp_path, {"profile": str(profile), "chat": {"concurrency": 2}})


@pytest.mark.parametrize("path", ["~nobody_is_called_so/x", "x" * 5000])
@pytest.mark.parametrize("setting", ["data", "extends"])
def test_what_is_no_path_is_an_error(tmp_path: Path, setting: str, path: str) -> None:
    profile = write(tmp_path / "mine.yaml", **{setting: path})
    with pytest.raises(DeeperError, match=r"is no path|neither built in|no file has a name"):
        load_settings(tmp_path, {"profile": str(profile)})


@pytest.mark.parametrize("memory", ["0 GB", "1 KB", "199.9MB", "190 MiB"])
def test_too_little_memory_is_an_error(tmp_path: Path, memory: str) -> None:
    profile = write(tmp_path / "mine.yaml", memory=memory)
    with pytest.raises(
        DeeperError, match=f"memory of {memory} is too little for histories; give 200 MB or more"
    ):
        load_settings(tmp_path, {"profile": str(profile)})
    write(profile, memory="200 MB")
    assert load_settings(tmp_path, {"profile": str(profile)}).memory == "200 MB"


def test_a_profile_that_extends_itself_is_an_error(tmp_path: Path) -> None:
    profile = tmp_path / "a.yaml"
    write(profile, extends=str(profile))
    with pytest.raises(DeeperError, match="extends itself"):
        load_settings(tmp_path, {"profile": str(profile)})


def test_a_broken_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("eval_users: [1\n")
    with pytest.raises(DeeperError, match=r"settings\.yaml cannot be read"):
        load_settings(tmp_path)
