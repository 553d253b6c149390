"""``config.yaml``: what to run. Read and checked before any job starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from ontogeny.errors import ConfigError, did_you_mean
from ontogeny.own_settings import OwnModel
from ontogeny.rooms import all_bases, all_studies, part, with_own_models
from ontogeny.settings import Settings, validate
from ontogeny.study import Plan, Scale, plan


class StudyOverrides(Settings):
    """Differences to a study at the chosen scale."""

    seeds: int | None = Field(None, ge=1, description="number of seeds of every row of the study")
    data: dict[str, Any] = Field({}, description="differences to the study's `data`")
    sweep: dict[str, dict[str, Any] | None] = Field({}, description="row -> differences; null drops the row")


class OwnEntry(Settings):
    """A model of the user's, and the study whose probes it is put under."""

    study: str = Field(description="a study that examines models of the user's")
    model: dict[str, Any] = Field(description="what that study asks about the model; see docs/your-own-model.md")


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Config(Settings):
    """What ``config.yaml`` may say."""

    scale: Scale = Field("laptop", description="smoke (seconds), laptop (minutes, the default) or paper (a GPU)")
    studies: Literal["all"] | list[str] = Field("all", description="'all', or the list of studies to run")
    seeds: int | None = Field(None, ge=1, description="seeds of every row of every study; null: as each study says")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where trainings run")
    overrides: dict[str, StudyOverrides] = Field({}, description="study or base -> differences to its settings")

    own: dict[Name, OwnEntry] = Field({}, description="name -> a model of yours")

    @field_validator("studies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Accept 'a b', 'a,b' from the command line beside a YAML list."""
        if isinstance(value, str):
            names = re.split(r"[\s,]+", value.strip())
            return "all" if names == ["all"] else names
        return value

    def selected(self) -> list[str]:
        """The slugs of the chosen studies."""
        return list(all_studies()) if self.studies == "all" else list(self.studies)

    def bases(self, where: str) -> list[str]:
        """The slugs of the bases that the chosen studies build on, sorted."""
        return sorted({base for study in self.selected() for base in self.plan(study, self.scale, where).bases})

    def own_model(self, name: str, where: str) -> OwnModel:
        """What the entry `name` of `own` says of the user's model, checked by its study. Raises ConfigError."""
        entry, key = self.own[name], f"{where}: own.{name}"
        if entry.study not in with_own_models():
            hint = did_you_mean(entry.study, with_own_models())
            raise ConfigError(f"{key}.study: '{entry.study}' examines no models of yours; {hint}")
        model: OwnModel = validate(part(entry.study, "own_settings").OwnSettings, entry.model, f"{key}.model")
        for file in model.files():
            if not Path(file).is_file():
                raise ConfigError(f"{key}.model: there is no file '{file}' (relative to {Path.cwd()}).")
        return model

    def plan(self, study: str, scale: str, where: str) -> Plan:
        """The plan of a study or base at `scale`. Overrides apply to the configured scale only."""
        if scale != self.scale:
            return plan(study, scale)
        override = self.overrides.get(study)
        changes = override.model_dump(exclude_defaults=True) if override else {}
        return plan(study, scale, changes, self.seeds, where)


def load_config(content: Mapping[str, Any], where: str) -> Config:
    """Check `content` (as Snakemake read it from the file `where`) and return it typed.

    Raises ConfigError naming the file, the key and the nearest valid one.
    """
    config: Config = validate(Config, dict(content), where)
    rooms = (*all_studies(), *all_bases())
    for key, names, known in (("studies", config.selected(), all_studies()), ("overrides", config.overrides, rooms)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{where}: {key}: there is no study '{name}'; {did_you_mean(name, known)}")
    if not config.selected():
        raise ConfigError(f"{where}: studies: is empty; name a study, or say 'all'.")
    for name in {*config.selected(), *config.overrides}:
        config.plan(name, config.scale, where)
    for name in config.own:
        config.own_model(name, where)
    return config
