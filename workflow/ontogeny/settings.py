"""Typed settings, and error messages that name the file, the key and the nearest valid one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ontogeny.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Settings(BaseModel):
    """A frozen record that refuses keys it does not know. Base of every settings model."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelData(Settings):
    """Data settings that decide which pretrained models and bases a study builds on."""

    def further_sources(self) -> tuple[str, ...]:
        """Names of sources that these settings ask for, beside those that ``study.yaml`` always needs."""
        return ()

    def bases(self) -> tuple[str, ...]:
        """Slugs of the bases that these settings build on."""
        return ()


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in `path`.

    Raises ConfigError if the file is missing, is not YAML, or is not a mapping.
    """
    try:
        content = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}, but a mapping of keys is expected.")
    return content


def validate(model: Any, content: Any, where: str) -> Any:
    """Return `content` as an instance of `model` (a pydantic model or an annotated union of them).

    `where` is the file (and the key within it) that the content comes from.
    Raises ConfigError with one line per wrong key, naming file, key, rule and the nearest valid key.
    """
    adapter = _adapter(model)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        lines = [_explain(problem, adapter, where) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


_ADAPTERS: dict[int, tuple[Any, TypeAdapter[Any]]] = {}  # by identity: annotated unions cannot be hashed


def _adapter(model: Any) -> TypeAdapter[Any]:
    """The adapter of `model`, built once; building one takes milliseconds, and every row of every study needs one."""
    if id(model) not in _ADAPTERS:
        _ADAPTERS[id(model)] = (model, TypeAdapter(model))
    return _ADAPTERS[id(model)][1]


def _explain(problem: Any, adapter: TypeAdapter[Any], where: str) -> str:
    location = [str(part) for part in problem["loc"]]
    if "discriminator" in adapter.json_schema() and len(location) > 1:
        location = location[1:]  # pydantic puts the name of the union's member first
    separator = "." if ": " in where else ": "
    place = where + (separator + ".".join(location) if location else "")
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key; {did_you_mean(location[-1], _siblings(adapter, location))}"
    if problem["type"] == "missing":
        return f"{place}: is missing."
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return f"{place}: is {problem['input']!r}, which is not among {known}; {did_you_mean(problem['input'], known)}"
    return f"{place}: {problem['msg']} (found {problem['input']!r})."


def _siblings(adapter: TypeAdapter[Any], location: list[str]) -> set[str]:
    """The keys that are allowed beside the last part of `location`, read off the model's JSON schema."""
    schema = adapter.json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return resolve(definitions[node["$ref"].split("/")[-1]])
        options = node.get("anyOf", []) + node.get("oneOf", [])
        return [leaf for option in options for leaf in resolve(option)] or [node]

    nodes = resolve(schema)
    for part in location[:-1]:
        nodes = [leaf for node in nodes for child in _children(node, part) for leaf in resolve(child)] or nodes
    return {key for node in nodes for key in node.get("properties", {})}


def _children(node: dict[str, Any], part: str) -> list[dict[str, Any]]:
    if part in node.get("properties", {}):
        return [node["properties"][part]]
    if isinstance(node.get("additionalProperties"), dict):
        return [node["additionalProperties"]]
    return [node["items"]] if part.isdigit() and "items" in node else []
