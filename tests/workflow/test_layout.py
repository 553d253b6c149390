"""The layout works for a bare `snakemake`, from elsewhere, as a module, by snakedeploy and for the catalogue."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ontogeny.scaffold import ROOT
from tests.workflow.conftest import Checkout, scaffold_checkout

JOBS = {
    "prepare alpha",
    "train alpha decay-s0-2",
    "probe alpha",
    "claims alpha",
    "figures alpha",
    "export alpha",
    "report",
}


def test_a_bare_snakemake_finds_the_default_profile(small: Checkout) -> None:
    done = small.snakemake("--dry-run", "--config", "scale=smoke")
    assert done.returncode == 0, done.stdout
    assert "profiles/default" in done.stdout


@pytest.mark.parametrize("entry", ["Snakefile", "workflow/Snakefile"])
def test_either_entry_plans_everything(small: Checkout, entry: str) -> None:
    assert small.planned("-s", entry, "--config", "scale=smoke") == JOBS


def test_a_file_is_a_target_whatever_scale_is_configured(small: Checkout) -> None:
    wanted = {"prepare alpha", "train alpha decay-s0-2", "probe alpha", "claims alpha"}
    assert small.planned("results/smoke/alpha/claims.json") == wanted
    assert {job.split("-s")[0] for job in small.planned("results/laptop/alpha/claims.json")} >= {"prepare alpha"}


def test_it_runs_from_another_folder(small: Checkout, tmp_path: Path) -> None:
    small_here = ["-s", str(small.path / "Snakefile"), "--directory", str(tmp_path), "--cores", "2"]
    done = small.snakemake(*small_here, "--config", "scale=smoke", "--", "results/smoke/alpha/claims.json")
    assert done.returncode == 0, done.stdout[-3000:]
    assert json.loads((tmp_path / "results/smoke/alpha/claims.json").read_text())["study"] == "alpha"
    assert not (small.path / "results" / "smoke" / "alpha" / "claims.json").exists()


@pytest.mark.parametrize(
    ("use", "prefix"), [("use rule * from ontogeny", ""), ("use rule * from ontogeny as onto_*", "onto_")]
)
def test_it_can_be_imported_as_a_module(small: Checkout, tmp_path: Path, use: str, prefix: str) -> None:
    (tmp_path / "Snakefile").write_text(
        f'configfile: "mine.yaml"\n\nmodule ontogeny:\n    snakefile: "{small.path}/workflow/Snakefile"\n'
        f"    config: config\n\n{use}\n\nrule mine:\n    default_target: True\n"
        f"    input: rules.{prefix}report.output[0].format(scale='smoke')\n"
    )
    (tmp_path / "mine.yaml").write_text("scale: smoke\nstudies: [alpha]\n")
    done = small.snakemake("--directory", str(tmp_path), "-s", str(tmp_path / "Snakefile"), "--cores", "2", "--dry-run")
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{prefix}train" in done.stdout


def test_snakedeploy_deploys_it(tmp_path: Path) -> None:
    checkout = scaffold_checkout(tmp_path / "origin")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run([*git, *command], cwd=checkout.path, check=True)
    deployed = tmp_path / "mine"
    tool = Path(sys.executable).parent / "snakedeploy"
    command = [str(tool), "deploy-workflow", str(checkout.path), str(deployed), "--tag", "v1"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    config = deployed / "config" / "config.yaml"
    config.write_text(config.read_text().replace("scale: laptop", "scale: smoke"))
    # for a repository on this machine snakedeploy writes the path within it; the user puts the repository in front
    entry = deployed / "workflow" / "Snakefile"
    entry.write_text(entry.read_text().replace('"workflow/Snakefile"', f'"{checkout.path}/workflow/Snakefile"'))
    done = checkout.snakemake("--directory", str(deployed), "-s", str(entry), "-n", "-c", "1")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "train decay-s0-2 (smoke)" in done.stdout


def test_the_workflow_catalogue_takes_it() -> None:
    catalogue = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert catalogue["usage"]["report"] is True
    assert "software-stack-deployment" in catalogue["usage"]
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml", "profiles/default/profile.yaml"):
        assert (ROOT / name).exists(), name
