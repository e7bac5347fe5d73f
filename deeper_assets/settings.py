"""One typed Settings object for an experiment; `layers` says where its values come from."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import cached_property
from reprlib import Repr
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from deeper_assets.domain_settings import STRICT, DomainSettings, LocalPath
from deeper_assets.engines.chat.endpoint import Endpoint
from deeper_assets.engines.embedding.choosing import EmbedderSettings
from deeper_assets.engines.secrets import Address, ModelName, VariableName
from deeper_assets.engines.training.hardware import ONE_DEVICE, Hardware
from deeper_assets.method.domains import PAPER_DOMAINS
from deeper_assets.method.exceptions import did_you_mean
from deeper_assets.method.induction.set_recipes import SET_RECIPES
from deeper_assets.method.protocols import Decoding
from deeper_assets.method.recipes import DEFAULT_RECIPE, RECIPES, Recipe, Training, is_taken
from deeper_assets.sources.shape import SIZE, enough_memory

DEFAULT_PROFILE = "offline"


def _all_is_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "all" else value


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _all_or_listed(value: object) -> object:
    return [ALL] if isinstance(value, str) and value.strip().lower() == ALL else _listed(value)


def _no_address(name: str) -> str:
    if "://" in name:
        raise ValueError("expected `offline`, a folder, or a model's name on the Hub, and not an address")
    return name


def _schedule(text: str) -> str:
    from dagster._utils.schedules import is_valid_cron_string

    if not is_valid_cron_string(text):
        raise ValueError("expected a cron schedule such as `0 6 * * 1`: minute, hour, day, month, weekday")
    return text


Count = Annotated[Annotated[int, Field(ge=1)] | Literal["paper"] | None, BeforeValidator(_all_is_none)]
"""How many users; None (written `all`) for every one; `paper` for as many as the paper has of a domain."""

CountOrNone = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_all_is_none)]
"""How many users, or 0; None (written `all`) for every one."""

Listed = Annotated[list[str], BeforeValidator(_listed)]
"""Names, in a list or separated by commas."""

ALL = "all"

Names = Annotated[list[str], Field(min_length=1), BeforeValidator(_all_or_listed)] | None
"""One name or several; `all` alone (here a list of it) for all there are; None where nothing is chosen."""

Size = Annotated[str, Field(pattern=rf"^{SIZE}$"), AfterValidator(enough_memory)]
"""Bytes, as DuckDB writes them."""

GREEDY = Decoding(temperature=0.0, top_p=1.0, repetition_penalty=1.0)


class ChatSettings(Endpoint):
    """The frozen chat model."""

    model_config = STRICT

    engine: Literal["offline", "openai"] = Field(
        "offline", description="the embedded stand-in, or any OpenAI-compatible endpoint"
    )


class SamplerSettings(BaseModel):
    """What the policy is sampled with."""

    model_config = STRICT

    engine: Literal["auto", "transformers", "vllm"] = Field(
        "auto",
        description="auto: vLLM with `urls`, or where it is installed, with a GPU and a policy not offline",
    )
    urls: Annotated[list[Address], BeforeValidator(_listed)] = Field(
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


class Settings(BaseModel):
    """Everything an experiment can be told. Unknown names are errors."""

    model_config = STRICT

    profile: str = Field(DEFAULT_PROFILE, description="name of a built-in profile, or a YAML file")
    seed: int = Field(20250216, description="decides who is sampled, who trains, and the generated ratings")

    data: LocalPath | None = Field(
        None, description="folder of the paper's published files; null: generated ratings"
    )
    downloads: LocalPath | None = Field(
        None,
        description="folder of original data sets (MovieLens, Amazon, Google Local, Food.com); a domain whose"
        " files lie there is read from them",
    )
    domains: dict[str, DomainSettings] = Field(default_factory=dict, description="domains of one's own")
    hash_ids: bool = Field(
        False, description="user ids are salted and hashed before anything is stored; the home has the salt"
    )
    synthetic_users: int = Field(120, ge=1, le=1_000_000, description="generated users a domain")

    train_users: Count = Field(
        60, description="training users a domain, at most; `all`, or as in the `paper`"
    )
    eval_users: Count = Field(
        40, description="evaluation users a domain, at most; `all`, or as in the `paper`"
    )
    train_share: float = Field(0.5, ge=0, le=1, description="share that trains where the source has no split")
    windows_at_least: int = Field(5, ge=2, description="windows a user must have to be used")
    short_users: CountOrNone = Field(
        0,
        description="users a domain with fewer windows, at most, or `all`: they get personas alone",
    )
    windows_at_most: int = Field(7, ge=2, description="windows of a user that are used, from the first on")
    categories_in_titles: bool = Field(
        False, description="whether an item's genres, tags or categories stand behind its title, in brackets"
    )
    memory: Size | None = Field(
        None,
        description="memory that cutting histories may take, e.g. `4 GB`; the rest goes to the disk; null: a"
        " quarter of the machine's, at least 1 GB",
    )

    branches: Annotated[
        list[Literal["refinement", "induction"]], Field(min_length=1), BeforeValidator(_listed)
    ] = Field(
        ["refinement"],
        description="what is made: one persona a user, refined; or several a person, each with its evidence",
    )
    session_silence: float = Field(
        30, gt=0, le=525_600, description="minutes without an event after which a session of a log has ended"
    )
    set_recipes: Listed = Field(
        [], description="recipes of policies that write sets of personas; none by default"
    )
    false_discovery: float = Field(
        0.5, ge=0, le=1, description="share of a person's induced personas that may be chance"
    )
    planted_noise: float = Field(
        0.2, ge=0, le=1, description="share of the events of generated people that belong to no persona"
    )

    chat: ChatSettings = Field(ChatSettings.model_validate({}), description="the frozen chat model")
    embedder: EmbedderSettings = Field(
        EmbedderSettings.model_validate({}), description="what turns memories into vectors"
    )
    max_cost_usd: float | None = Field(
        None, ge=0, description="what chat model and embedder may cost in this home, all runs together"
    )
    prompts: dict[str, LocalPath] = Field(
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
    policy: ModelName = Field(
        "offline", description="base of the policy: offline, or a model's folder or hub name"
    )
    candidates: int = Field(15, ge=2, le=1000, description="refinements sampled a context")
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
    train_recipes: Listed = Field(
        ["balanced", "paper"], description="recipes that `deeper run` trains; [] for no policy"
    )
    training_seeds: int = Field(
        1, ge=1, le=100, description="how often each recipe is trained, to see what chance makes of it"
    )
    training_domains: Names = Field(
        None, description="domains that train; null: one's own, or where there is none `all` that are seen"
    )
    evaluate: Names = Field(
        None, description="domains that are evaluated; null: one's own, or where there is none `all`"
    )

    processes: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="of `deeper run`; null: 2 to 4, as there are cores, or 16 to wait for batches",
    )
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", description="steps of a run of the UI: one after another, or a process each"
    )
    re_evaluation_cron: Annotated[str, AfterValidator(_schedule)] = Field(
        "0 6 * * 1", description="when the re_evaluation schedule runs, UTC"
    )
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
    def _training_is_possible(self) -> "Settings":
        if (impossible := self.training.impossible()) is not None:
            raise ValueError(impossible)
        return self

    @model_validator(mode="after")
    def _recipes_are_known(self) -> "Settings":
        for name in self.train_recipes:
            if name not in self.all_recipes:
                raise ValueError(
                    f"train_recipes: {shown(name)} is no recipe{did_you_mean(name, self.all_recipes)}"
                )
        return self

    @model_validator(mode="after")
    def _set_recipes_are_known(self) -> "Settings":
        if len(set(self.set_recipes)) < len(self.set_recipes):
            raise ValueError("set_recipes: a recipe stands there twice")
        for name in self.set_recipes:
            if name not in SET_RECIPES:
                hint = did_you_mean(name, SET_RECIPES)
                known = ", ".join(SET_RECIPES)
                raise ValueError(f"set_recipes: {shown(name)} is no recipe of sets{hint}; known: {known}")
        return self

    @model_validator(mode="after")
    def _domains_have_names(self) -> "Settings":
        for name in self.domains:
            _refuse_no_name("domains", name)
            if name == ALL:
                raise ValueError("domains: 'all' means every domain; give yours another name")
            if name in {domain.name for domain in PAPER_DOMAINS}:
                raise ValueError(f"domains: {name!r} is one of the paper's; give your own another name")
        return self

    @model_validator(mode="after")
    def _domains_are_known(self) -> "Settings":
        known = [*(domain.name for domain in PAPER_DOMAINS), *self.domains]
        for setting, given in (("evaluate", self.evaluate), ("training_domains", self.training_domains)):
            for name in [] if given == [ALL] else given or []:
                if name not in known:
                    hint = did_you_mean(name, known)
                    back = "; `--domains all` goes back to all" if setting == "evaluate" else ""
                    raise ValueError(
                        f"{setting}: {shown(name)} is no domain{hint} (known: {', '.join(known)}){back}"
                    )
        return self

    @cached_property
    def all_recipes(self) -> dict[str, Recipe]:
        """The built-in recipes and one's own, by name."""
        return dict(RECIPES) | {name: _own_recipe(name, given) for name, given in self.recipes.items()}


def _own_recipe(name: str, given: Mapping[str, Any]) -> Recipe:
    """A recipe of one's own: the one it is `like` (balanced by default) with some values replaced."""
    if name in RECIPES:
        raise ValueError(f"recipes: {name!r} is built in; give your own another name")
    _refuse_no_name("recipes", name)
    if is_taken(name):
        raise ValueError(
            f"recipes: {name!r} reads like one training of another recipe; give yours another name"
        )
    values = dict(given)
    like = values.pop("like", DEFAULT_RECIPE)
    if not isinstance(like, str) or like not in RECIPES:
        hint = did_you_mean(str(like), RECIPES)
        raise ValueError(f"recipes: {name}: like {shown(like)} is no built-in recipe{hint}")
    known = {field.name for field in fields(Recipe)}
    for key in values:
        if key not in known:
            raise ValueError(
                f"recipes: {name}: {shown(key)} is no part of a recipe{did_you_mean(key, known)}"
            )
    try:
        recipe = _OfRecipe.model_validate({"recipe": asdict(RECIPES[like]) | values}).recipe
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:]))
        raise ValueError(f"recipes: {name}: {place} = {shown(first['input'])}: {first['msg']}") from error
    if made_of_yes_or_no(values, recipe) is not None:
        raise ValueError(f"recipes: {name}: expected numbers, not yes or no")
    return recipe


class _OfRecipe(BaseModel):
    """Holds a recipe's values to what holds for all settings."""

    model_config = STRICT

    recipe: Recipe


def _refuse_no_name(setting: str, name: str) -> None:
    """Names stand in partition keys, file names, SQL and lists on the command line, so they are plain."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ValueError(
            f"{setting}: {name[:60]!r} is no name; use lower-case letters, digits and underscores, a letter "
            "first, 40 at most"
        )


def shown(value: object) -> str:
    """A value as an error shows it, shortened."""
    return _SHORT.repr(value)


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def made_of_yes_or_no(given: Any, taken: Any, place: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    """Where yes or no was given and pydantic made a number of it; None where nowhere."""
    if isinstance(given, bool):
        return place if isinstance(taken, int | float) and not isinstance(taken, bool) else None
    inner: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(given, Mapping):
        inner = (
            (name, value, taken.get(name) if isinstance(taken, Mapping) else getattr(taken, name, None))
            for name, value in given.items()
        )
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        inner = ((number, *both) for number, both in enumerate(zip(given, taken, strict=False)))
    places = (made_of_yes_or_no(value, became, (*place, name)) for name, value, became in inner)
    return next((where for where in places if where is not None), None)
