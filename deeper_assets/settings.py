"""One typed Settings object for an experiment; `layers` says where its values come from."""

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.http import Address, VariableName
from deeper_assets.engines.training.hardware import ONE_DEVICE, Hardware
from deeper_assets.method.domains import PAPER_DOMAINS, Scale
from deeper_assets.method.exceptions import did_you_mean
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import DEFAULT_RECIPE, RECIPES, Recipe, Training, is_taken
from deeper_assets.sources.custom import ColumnMap

DEFAULT_PROFILE = "offline"


def _all_is_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "all" else value


Count = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_all_is_none)]
"""How many users; None (written `all`) for every one."""


Names = Annotated[Annotated[list[str], Field(min_length=1)] | None, BeforeValidator(_all_is_none)]
"""One name or several; None (written `all`) for all there are."""


class DomainSettings(BaseModel):
    """A domain of one's own: what its items are, their scale, and where its ratings lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_type: str = Field(description="one item, in the singular: podcast episode")
    scale: Scale
    seen: bool = Field(True, description="whether its training users train the policy")
    columns: ColumnMap
    file: Path | None = Field(None, description="CSV, TSV (also .gz) or Parquet file")
    query: str | None = Field(None, description="SQL that gives the rows; alone, DuckDB's SQL over files")
    database: Path | None = Field(None, description="DuckDB file that the query is asked of, read-only")
    dsn_env: str | None = Field(None, description="environment variable with the DSN of the Postgres asked")

    @model_validator(mode="after")
    def _one_place(self) -> "DomainSettings":
        if (self.file is None) == (self.query is None):
            raise ValueError("give either a file or a query")
        if self.query is None and (self.database is not None or self.dsn_env is not None):
            raise ValueError("database and dsn_env say what a query is asked of; a file needs neither")
        if self.database is not None and self.dsn_env is not None:
            raise ValueError("a query is asked of a database file or of Postgres (dsn_env), not of both")
        return self


GREEDY = Decoding(temperature=0.0, top_p=1.0, repetition_penalty=1.0)


class ChatSettings(Endpoint):
    """The frozen chat model."""

    engine: Literal["offline", "openai"] = Field(
        "offline", description="the embedded stand-in, or any OpenAI-compatible endpoint"
    )


class SamplerSettings(BaseModel):
    """What the policy is sampled with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["auto", "transformers", "vllm"] = Field(
        "auto",
        description="auto: vLLM with `urls`, or where it is installed, with a GPU and a policy not offline",
    )
    urls: list[Address] = Field(
        [], description="of vLLM servers, with /v1: replicas of one base model; []: the home starts its own"
    )
    key_env: VariableName = Field(
        "VLLM_API_KEY", description="environment variable that holds the servers' key"
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs that one model is spread over")
    memory_share: float = Field(
        0.9, gt=0, le=1, description="of a GPU's memory, for weights and attention cache"
    )
    keep_loaded: float = Field(
        300, ge=1, description="seconds that the home's own server stays when nobody samples from it"
    )
    prefix_caching: bool = Field(True, description="read what prompts have in common once")
    max_length: int | None = Field(None, ge=1, description="tokens of prompt and text; null: the model's")
    dtype: str = Field("auto", description="auto, bfloat16, float16 or float32")
    concurrency: int = Field(
        64, ge=1, description="requests at once to each server, from each of `processes`"
    )


class Settings(BaseSettings):
    """Everything an experiment can be told. Unknown names are errors."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    profile: str = Field(DEFAULT_PROFILE, description="name of a built-in profile, or a YAML file")
    seed: int = Field(20250216, description="decides who is sampled, who trains, and the generated ratings")

    data: Path | None = Field(None, description="folder of the published files; null: generated ratings")
    domains: dict[str, DomainSettings] = Field(default_factory=dict, description="domains of one's own")
    synthetic_users: int = Field(120, ge=1, description="generated users a domain")

    train_users: Count = Field(60, description="training users a domain, at most; `all` for every one")
    eval_users: Count = Field(40, description="evaluation users a domain, at most; `all` for every one")
    train_share: float = Field(0.5, ge=0, le=1, description="share that trains where the source has no split")
    windows_at_least: int = Field(5, ge=2, description="windows a user must have to be used")
    windows_at_most: int = Field(7, ge=2, description="windows of a user that are used, from the first on")

    chat: ChatSettings = Field(ChatSettings.model_validate({}), description="the frozen chat model")
    max_cost_usd: float | None = Field(
        None, ge=0, description="what the chat model may cost in this home, all runs together"
    )
    prompts: dict[str, Path] = Field(
        default_factory=dict, description="template name -> file that replaces it"
    )
    persona_words: int = Field(200, ge=1, description="shortest first persona that is asked for, words")
    asks: int = Field(3, ge=1, description="how often an unreadable answer is asked for, the first included")
    unreadable_limit: float = Field(
        0.5, ge=0, le=1, description="share of unreadable answers that stops a run"
    )

    sampler: SamplerSettings = Field(
        SamplerSettings.model_validate({}), description="what the policy is sampled with"
    )
    policy: str = Field("offline", description="base of the policy: offline, or a model's folder or hub name")
    candidates: int = Field(15, ge=2, description="refinements sampled a context")
    candidate_decoding: Decoding = Field(Decoding(), description="how candidates are sampled")
    evaluation_decoding: Decoding = Field(
        GREEDY, description="how a policy writes in evaluation, and S1 for iteration 2"
    )
    forbid_leaks: bool = Field(False, description="candidates that name items or scores are not used")
    training: Training = Field(Training(), description="how hard the optimizer works")
    hardware: Hardware = Field(ONE_DEVICE, description="what training runs on")
    recipes: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="recipes of one's own: what differs from the built-in one `like`"
    )
    train_recipes: list[str] = Field(
        ["balanced", "paper"], description="recipes that `deeper run` trains; [] for no policy"
    )
    training_seeds: int = Field(
        1, ge=1, description="how often each recipe is trained, to see what chance makes of it"
    )
    training_domains: list[str] | None = Field(None, description="domains that train; null: all seen ones")
    evaluate: Names = Field(None, description="domains that are evaluated; null or `all`: all")

    processes: int | None = Field(
        None, ge=1, description="of `deeper run`; null: 2 to 4, as there are cores, or 16 to wait for batches"
    )
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", description="steps of a run of the UI: one after another, or a process each"
    )
    re_evaluation_cron: str = Field("0 6 * * 1", description="when the re_evaluation schedule runs, UTC")
    re_evaluation: Literal["stale", "all"] = Field("stale", description="which evaluations it asks for")
    event_log_days: int | None = Field(
        None, ge=1, description="days that runs are kept that made nothing of what is stored; null: all"
    )
    lock_timeout: float = Field(300.0, ge=0, description="seconds to wait for another process's lock")

    @model_validator(mode="after")
    def _someone_can_be_used(self) -> "Settings":
        if self.windows_at_least > self.windows_at_most:
            least, most = self.windows_at_least, self.windows_at_most
            raise ValueError(f"windows_at_least {least} is more than windows_at_most {most}")
        return self

    @model_validator(mode="after")
    def _recipes_are_known(self) -> "Settings":
        for name in self.train_recipes:
            if name not in self.all_recipes:
                raise ValueError(
                    f"train_recipes: {name!r} is no recipe{did_you_mean(name, self.all_recipes)}"
                )
        return self

    @model_validator(mode="after")
    def _domains_are_known(self) -> "Settings":
        known = [*(domain.name for domain in PAPER_DOMAINS), *self.domains]
        for setting, given in (("evaluate", self.evaluate), ("training_domains", self.training_domains)):
            for name in given or []:
                if name not in known:
                    hint = did_you_mean(name, known)
                    back = "; `--domains all` goes back to all" if setting == "evaluate" else ""
                    raise ValueError(
                        f"{setting}: {name!r} is no domain{hint} (known: {', '.join(known)}){back}"
                    )
        return self

    @cached_property
    def all_recipes(self) -> dict[str, Recipe]:
        """The built-in recipes and one's own, by name."""
        return dict(RECIPES) | {name: _own_recipe(name, given) for name, given in self.recipes.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls with these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values come from `load_settings` alone: a Settings object never depends on where it is made."""
        return (init_settings,)


def _own_recipe(name: str, given: Mapping[str, Any]) -> Recipe:
    """A recipe of one's own: the one it is `like` (balanced by default) with some values replaced."""
    if name in RECIPES:
        raise ValueError(f"recipes: {name!r} is built in; give your own another name")
    if not _RECIPE_NAME.fullmatch(name):
        raise ValueError(f"recipes: {name!r} is no name; use lower-case letters, digits and underscores")
    if is_taken(name):
        raise ValueError(
            f"recipes: {name!r} reads like one training of another recipe; give yours another name"
        )
    values = dict(given)
    like = values.pop("like", DEFAULT_RECIPE)
    if like not in RECIPES:
        raise ValueError(f"recipes: {name}: like {like!r} is no built-in recipe{did_you_mean(like, RECIPES)}")
    known = {field.name for field in fields(Recipe)}
    for key in values:
        if key not in known:
            raise ValueError(f"recipes: {name}: {key!r} is no part of a recipe{did_you_mean(key, known)}")
    try:
        return TypeAdapter(Recipe).validate_python(asdict(RECIPES[like]) | values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"recipes: {name}: {place} = {first['input']!r}: {first['msg']}") from error


_RECIPE_NAME = re.compile(r"[a-z][a-z0-9_]*")
