"""House rules, held by tests: lint, format, types, rules, notebooks, environments."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import pytest

from ontogeny.pins import RUN, read_pins
from ontogeny.rooms import STUDIES, all_studies
from ontogeny.scaffold import ROOT
from ontogeny.study import load_study
from tests.workflow.conftest import Checkout

RULES = sorted((ROOT / "rules").glob("*.smk"))
LIBRARY = [path for path in sorted((ROOT / "workflow").rglob("*.py")) if "scaffold" not in path.parts]
DIRECTIVES = ("output", "log", "benchmark", "threads", "resources", "conda", "message")


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "workflow", "tests"),
        ("ruff", "format", "--check", "workflow", "tests"),
        ("snakefmt", "--check", "Snakefile", "workflow/Snakefile", "rules"),
        ("mypy",),
    ],
    ids=["ruff check", "ruff format", "snakefmt", "mypy"],
)
def test_the_code_is_clean(command: tuple[str, ...]) -> None:
    done = tool(*command)
    assert done.returncode == 0, done.stdout[-4000:]


def test_snakemake_lint_is_clean(small: Checkout) -> None:
    done = small.snakemake("--lint")
    assert done.returncode == 0, done.stdout[-4000:]


def blocks() -> dict[str, str]:
    """Rule -> its text."""
    found = {}
    for path in RULES:
        for match in re.finditer(r"^rule (\w+):\n((?:[ \t].*\n|\n)+)", path.read_text() + "\n", re.MULTILINE):
            found[match[1]] = match[2]
    return found


@pytest.mark.parametrize(("rule", "text"), blocks().items(), ids=list(blocks()))
def test_every_rule_has_every_directive(rule: str, text: str) -> None:
    for directive in DIRECTIVES:
        assert re.search(rf"^    {directive}:", text, re.MULTILINE), f"{rule} has no {directive}"
    for resource in ("mem_mb", "runtime", "gpu"):
        assert f"{resource}=" in text, f"{rule} has no {resource}"
    assert "run:" not in text


def test_all_stages_have_a_rule() -> None:
    assert set(blocks()) == {
        "acquire",
        "prepare",
        "train",
        "probe",
        "claims",
        "figures",
        "export",
        "report",
        "own",
        "own_figures",
    }


def test_no_rule_names_a_study() -> None:
    for path in [ROOT / "Snakefile", *RULES]:
        assert not [study for study in all_studies() if re.search(rf"\b{study}\b", path.read_text())]


@pytest.mark.parametrize("study", all_studies())
def test_a_study_is_complete(study: str) -> None:
    spec, room = load_study(study), STUDIES / study
    for name in ("settings", "data", "train", "probe", "claims", "bench"):
        assert (room / f"{name}.py").exists(), name
    assert (ROOT / "tests" / "studies" / f"test_{study}.py").exists()
    functions = {
        node.name for node in ast.parse((room / "claims.py").read_text()).body if isinstance(node, ast.FunctionDef)
    }
    testable = {name for name, claim in spec.claims.items() if len(claim.out_of_scope) < len(spec.scales)}
    assert testable <= functions
    notebook = (ROOT / "notebooks" / f"{study}.ipynb").read_text()
    for figure in spec.figures:
        assert re.search(rf"save\([^)]*{figure}", notebook), f"the notebook does not save {figure}"
    assert "torch" not in re.findall(r"import (\w+)", notebook)
    assert any(claim.headline for claim in spec.claims.values())


@pytest.mark.parametrize("study", all_studies())
def test_notebooks_are_committed_without_outputs(study: str) -> None:
    content = json.loads((ROOT / "notebooks" / f"{study}.ipynb").read_text())
    assert content["metadata"]["language_info"]["name"] == "python"
    for cell in content["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_library_loads_no_pickles() -> None:
    for path in LIBRARY:
        assert not re.search(
            r"allow_pickle=True|torch\.load\(|^import pickle|from pickle", path.read_text(), re.MULTILINE
        ), path


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in LIBRARY
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (node.end_lineno or 0) - node.lineno >= 80
    ]
    assert not long


def test_the_settings_of_studies_import_no_torch() -> None:
    code = "import sys\nfrom ontogeny.rooms import all_studies, part\n[part(s, 'settings') for s in all_studies()]\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], cwd=ROOT / "workflow", check=False
    )
    assert done.returncode == 0


def test_every_import_of_the_library_is_required() -> None:
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    required = read_pins(ROOT / RUN)
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [module] if module else []
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"ontogeny"}:
                assert {owner.lower().replace("_", "-") for owner in owners[name]} & set(required), (
                    f"{path.name}: {name}"
                )
