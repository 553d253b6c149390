"""Every study runs in the environments of envs/, and each environment holds by itself what its stages import.

Solving, linking and activation are real (rattler); the channel is made of the packages installed here, so whether the
public channels have these versions is not tested.
"""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from ontogeny import pins
from ontogeny.rooms import all_studies
from tests import stages
from tests.conda.conftest import SYSTEM, Installation, places, run
from tests.workflow.conftest import SMOKE, Checkout

pytestmark = pytest.mark.conda

WANTED = pins.load_wanted()
KINDS = sorted(stages.kinds())


def environment_of(kind: str, environments: dict[str, Path]) -> Path:
    return environments[kind if kind != "train" else "train-cpu"]


def test_every_study_runs_in_its_environments(checkout: Checkout, environments: dict[str, Path], said: str) -> None:
    claims = checkout.path / "results" / "smoke" / "report" / "claims.csv"
    assert {line.split(",")[0] for line in claims.read_text().splitlines()[1:]} == set(all_studies())
    assert {"claims", "figures", "train-cpu"} <= set(environments)
    assert said.count("Activating conda environment") >= 6 * len(all_studies())
    for study in all_studies():
        for record in (checkout.path / "results" / "smoke" / study / "runs").glob("*/provenance.json"):
            versions = json.loads(record.read_text())["packages"]
            assert versions["torch"].startswith(pins.read_pins(pins.ROOT / pins.RUN)["torch"])
            assert versions["statsmodels"] == "absent", "the training saw packages from outside its environment"


def test_nothing_is_left_to_do(installation: Installation, checkout: Checkout, said: str) -> None:
    done = installation.snakemake(checkout, "--cores", "2", *SMOKE)
    assert "Nothing to be done" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_alone_imports_what_its_stages_import(
    kind: str, installation: Installation, checkout: Checkout, room: Path
) -> None:
    """With -I and without Snakemake: a `script:` would quietly take what is missing from Snakemake's own packages."""
    stem = "train-cpu" if kind == "train" else kind
    prefix = room / "alone" / stem
    installation.conda("env", "create", "--file", str(checkout.path / "envs" / f"{stem}.yaml"), "--prefix", str(prefix))
    modules = sorted({module for stage in stages.kinds()[kind] for module in stages.modules(stage)})
    names = {name for stage in stages.kinds()[kind] for name in stages.imports(stage, "ever")}
    lacks = set(WANTED.environments[kind].lacks)
    names = {name for name in names if not stages.distributions([name]) & lacks}
    check = textwrap.dedent(f"""
        import importlib, sys
        sys.path.insert(0, {str(checkout.path / "workflow")!r})
        for name in {modules}:
            importlib.import_module(name)
        for name in {sorted(names)}:
            origin = importlib.import_module(name).__file__
            assert origin.startswith(sys.prefix), (name, origin)
        import pyarrow.parquet
        assert sys.prefix == {str(prefix)!r}, sys.prefix
    """)
    run([str(prefix / "bin" / "python"), "-I", "-c", check], room, {"PATH": SYSTEM})


def test_a_notebook_takes_the_kernel_of_its_environment(
    installation: Installation, checkout: Checkout, environments: dict[str, Path], tmp_path: Path
) -> None:
    """Though the user has a kernel called python3 of their own, and the library is found by PYTHONPATH."""
    specs = tmp_path / ".local" / "share" / "jupyter" / "kernels" / "python3"
    specs.mkdir(parents=True)
    (specs / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    metadata = {"kernelspec": {"name": "python3", "display_name": "x"}, "language_info": {"name": "python"}}
    source = "import sys, ontogeny, pandas\nprint([sys.prefix, ontogeny.__file__, pandas.__file__])"
    cell: dict[str, object] = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": source,
    }
    content = {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "in.ipynb").write_text(json.dumps(content))
    prefix, library = environments["figures"], checkout.path / "workflow"
    surroundings = {"HOME": str(tmp_path), "PYTHONPATH": str(library), "JUPYTER_PREFER_ENV_PATH": "1"}
    installation.activated(prefix, "papermill --log-level ERROR in.ipynb out.ipynb", tmp_path, **surroundings)
    output = json.loads((tmp_path / "out.ipynb").read_text())["cells"][0]["outputs"][0]["text"]
    found = [Path(path) for path in json.loads("".join(output).replace("'", '"'))]
    assert found[0].samefile(prefix)
    assert found[1].is_relative_to(library)
    assert found[2].is_relative_to(found[0])


@pytest.mark.parametrize(
    ("scale", "device", "gpu", "expected"),
    [
        ("smoke", "auto", True, {"train-cpu"}),
        ("smoke", "cuda", True, {"train-cpu", "train-cuda"}),
        ("paper", "auto", True, {"train-cpu", "train-cuda"}),
        ("paper", "auto", False, {"train-cpu"}),
        ("paper", "cpu", True, {"train-cpu"}),
    ],
)
def test_torch_follows_the_gpus(
    scale: str,
    device: str,
    gpu: bool,
    expected: set[str],
    installation: Installation,
    checkout: Checkout,
    tmp_path: Path,
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "echo 'GPU 0: None (UUID: GPU-0123)'\n" * gpu)
    program.chmod(0o755)
    path = f"{tmp_path}:{installation.environment['PATH']}"
    chosen = ("--config", f"scale={scale}", f"device={device}")
    listed = installation.snakemake(checkout, "--list-conda-envs", "--forceall", *chosen, PATH=path)
    assert listed.returncode == 0, listed.stdout[-3000:]
    assert {stem for stem, _ in places(listed.stdout, checkout) if stem.startswith("train")} == expected


def test_the_cuda_build_asks_for_a_gpu(installation: Installation) -> None:
    ask = ("env", "create", "--dry-run", "--file", "envs/train-cuda.yaml", "--prefix", "x")
    chosen = json.loads(installation.conda(*ask, CONDA_OVERRIDE_CUDA="12.9"))
    assert chosen["pytorch"].endswith("cuda_0")
    with pytest.raises(AssertionError, match="__cuda"):
        installation.conda(*ask, CONDA_OVERRIDE_CUDA="")


def test_explicit_lists_are_made_and_used(installation: Installation, room: Path) -> None:
    """The command of `make conda-pins`; its lists agree with the yaml and Snakemake takes them."""
    checkout = Checkout(room / "pinned")
    deploy = str(Path(pins.sys.executable).parent / "snakedeploy")
    command = [deploy, "pin-conda-envs", "--conda-frontend", "conda", "--warn-on-error", "envs/claims.yaml"]
    run(command, checkout.path, installation.environment)
    (listed,) = pins.pin_files(checkout.path)
    assert pins.stale(listed) == []
    make = ("--conda-create-envs-only", "--cores", "1", "--until", "claims", *SMOKE)
    done = installation.snakemake(checkout, *make)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(rf"Using pinnings from \S*{re.escape(listed.name)}", done.stdout), done.stdout
    assert "Failed to install" not in done.stdout


# What a person is told when something is missing; the words are Snakemake's and the solver's


def test_a_version_that_the_channel_lacks_is_named(installation: Installation, room: Path) -> None:
    checkout = Checkout(room / "lacking")
    path = checkout.path / "envs" / "claims.yaml"
    path.write_text(re.sub(r"scipy ==\S+", "scipy ==99.0", path.read_text()))
    done = installation.snakemake(checkout, "--conda-create-envs-only", "--cores", "1", *SMOKE)
    assert done.returncode == 1
    assert "claims.yaml" in done.stdout
    assert "scipy ==99.0" in done.stdout


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "Is conda installed and accessible?"),
        ("conda 23.1.0", "Conda must be version 24.7.1 or later, found version 23.1.0"),
    ],
    ids=["no conda", "an old conda"],
)
def test_conda_itself_is_looked_at(
    script: str | None, message: str, installation: Installation, checkout: Checkout, tmp_path: Path
) -> None:
    path = f"{installation.control}/bin:{SYSTEM}"
    if script:
        program = tmp_path / "conda"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo {script} || exec {installation.root}/bin/conda "$@"\n'
        )
        program.chmod(0o755)
        path = f"{tmp_path}:{path}"
    done = installation.snakemake(checkout, "--dry-run", *SMOKE, PATH=path)
    assert done.returncode == 1
    assert message in " ".join(done.stdout.split())


def test_the_stand_in_refuses_what_it_does_not_know(installation: Installation) -> None:
    for command in (["upgrade"], ["activate-code", "/nowhere"], ["env", "create", "--prefix", "x"]):
        done = subprocess.run(
            [installation.root / "bin" / "conda", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.strip()
