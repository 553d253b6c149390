"""What the stages import and where they run, read off the rules and the code: no study and no package is named here."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions

from ontogeny import fingerprint
from ontogeny.pins import canonical
from ontogeny.rooms import all_studies, with_own_models

ROOT = fingerprint.ROOT
# The commands that plan and watch; the rules' own imports come on top
COMMANDS = ("ontogeny.reproduce", "ontogeny.why", "ontogeny.fingerprint")


@cache
def kinds() -> dict[str, tuple[str, ...]]:
    """Kind of work (a table of envs/packages.toml) -> the stages whose rules run in its environment."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "rules").glob("*.smk"):
        for block in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            conda = re.search(
                r'^    conda:\n        (?:"\.\./envs/(\w+)(?:-cpu)?\.yaml"|with_(torch)\("(\w+)"\))',
                block,
                re.MULTILINE,
            )
            assert conda, f"{path.name}: rule {block.split(':')[0]} names no environment of envs/"
            stage = block.split(":")[0]
            assert conda[3] in (None, stage), f"{path.name}: rule {stage} takes the environment of {conda[3]}"
            found.setdefault(conda[1] or "train", []).append(stage)
    return {kind: tuple(stages) for kind, stages in sorted(found.items())}


def modules(stage: str) -> list[str]:
    """The library modules that a stage imports, over all studies."""
    studies = with_own_models() if stage.startswith("own") else all_studies()
    return sorted({module for study in studies for module in fingerprint.stage_modules(stage, study)})


def control_modules() -> list[str]:
    """The library modules that the Snakefile, the rules and the commands import."""
    text = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])
    lines = re.findall(r"^from ontogeny(?:\.(\w+))? import (.*)", text, re.MULTILINE)
    named = {f"ontogeny.{name}" for module, names in lines for name in ([module] if module else names.split(", "))}
    named |= {*COMMANDS} | {f"ontogeny.studies.{study}.settings" for study in all_studies()}
    return sorted({module for name in named for module in fingerprint.imported_by(name)})


def cells(stage: str) -> list[ast.Module]:
    """The code of the notebooks, if the stage runs them."""
    if stage != "figures":
        return []
    sources = [fingerprint.notebook_sources(fingerprint.NOTEBOOKS / f"{study}.ipynb") for study in all_studies()]
    code = [text for cells in sources for kind, text in cells if kind == "code" and text[:1] not in "%!"]
    return [ast.parse(text) for text in code]


def third_party(trees: Iterable[ast.Module], when: str) -> set[str]:
    """Top-level names from elsewhere that `trees` import: `always`, as soon as they are imported, or `ever`."""
    names = {name for tree in trees for name in _imports(tree, when)}
    return names - set(sys.stdlib_module_names) - {"ontogeny"}


def imports(stage: str, when: str) -> set[str]:
    """What a stage imports from elsewhere, over all studies."""
    trees = [ast.parse(fingerprint.module_file(module).read_text()) for module in modules(stage)]
    return third_party([*trees, *cells(stage)], when)


def control_imports(when: str) -> set[str]:
    """What planning and the commands import from elsewhere."""
    return third_party([ast.parse(fingerprint.module_file(module).read_text()) for module in control_modules()], when)


def _imports(node: ast.AST, when: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.split(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module.split(".")[0]
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        elif when == "ever" or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _imports(child, when)


def distributions(names: Iterable[str]) -> set[str]:
    """The installed distributions that provide the imported `names`."""
    owners = packages_distributions()
    return {canonical(owners[name][0]) for name in names}
