"""Fingerprints of code: what a stage really imports, without comments and docstrings.

Snakemake reruns a job when its script or its parameters change, but does not look into the modules that a script
imports. Each rule therefore carries a digest of these modules as a parameter.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

LIBRARY = Path(__file__).parent
ROOT = LIBRARY.parent.parent
NOTEBOOKS = ROOT / "notebooks"

# The module that each stage's script imports; the study's own modules come on top
DRIVERS = {
    "acquire": "ontogeny.sources",
    "prepare": "ontogeny.stages.prepare",
    "train": "ontogeny.stages.train",
    "probe": "ontogeny.stages.probe",
    "claims": "ontogeny.stages.decide",
    "figures": "ontogeny.notebook",
    "export": "ontogeny.stages.export",
    "own": "ontogeny.own",
    "own_figures": "ontogeny.stages.own_figures",
    "report": "ontogeny.report",
}
STUDY_MODULES = {
    "prepare": ("data", "settings"),
    "train": ("train", "settings"),
    "probe": ("probe", "settings"),
    "claims": ("claims",),
    "own": ("own", "own_settings"),
    "own_figures": ("own_figures",),
}


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("ontogeny", cache_dir=None)  # a cache by file times would miss quick edits


@cache
def imported_by(module: str) -> frozenset[str]:
    """`module` and all modules of the library that importing it runs, packages above them included."""
    graph = _graph()
    found = {module, *graph.find_upstream_modules(module)}
    parents = {name.rsplit(".", depth)[0] for name in found for depth in range(1, name.count(".") + 1)}
    return frozenset(found | {parent for parent in parents if parent in graph.modules})


@cache
def module_digest(module: str) -> str:
    """Digest of what a module does: its syntax tree without docstrings, so that comments and layout do not count."""
    tree = ast.parse(module_file(module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _has_docstring(node):
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def module_file(module: str) -> Path:
    """The file of a module of the library."""
    path = LIBRARY.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def stage_modules(stage: str, study: str | None = None) -> list[str]:
    """The library modules that a stage of a study imports, sorted."""
    roots = [DRIVERS[stage]]
    if study is not None:
        roots += [f"ontogeny.studies.{study}.{module}" for module in STUDY_MODULES.get(stage, ())]
    if study is not None and stage == "figures":
        roots += notebook_imports(NOTEBOOKS / f"{study}.ipynb")
    return sorted({module for root in roots for module in imported_by(root)})


def stage_code(stage: str, study: str | None = None) -> dict[str, str]:
    """Module -> short digest, for every module that a stage imports (and the notebook's cells, for figures)."""
    digests = {module: module_digest(module)[:12] for module in stage_modules(stage, study)}
    if study is not None and stage == "figures":
        digests[f"notebooks/{study}.ipynb"] = notebook_digest(NOTEBOOKS / f"{study}.ipynb")[:12]
    return digests


def encode(code: dict[str, str]) -> str:
    """One parameter value for Snakemake to compare and `make why` to take apart again."""
    return " ".join(f"{module}={digest}" for module, digest in sorted(code.items()))


def decode(text: str) -> dict[str, str]:
    """The inverse of `encode`."""
    return dict(entry.split("=", 1) for entry in text.split())


def notebook_sources(path: Path) -> list[tuple[str, str]]:
    """(cell type, source) of every cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]


def notebook_digest(path: Path) -> str:
    """Digest of a notebook's cells; prose counts, because the executed notebook shows it."""
    return hashlib.sha256(json.dumps(notebook_sources(path)).encode()).hexdigest()


def notebook_imports(path: Path) -> list[str]:
    """The library modules that a notebook imports."""
    code = "\n".join(source for kind, source in notebook_sources(path) if kind == "code" and source[:1] not in "%!")
    return sorted(set(_library_names(ast.walk(ast.parse(code)))))


def _library_names(nodes: Iterable[ast.AST]) -> Iterable[str]:
    modules = _graph().modules
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name in modules)
