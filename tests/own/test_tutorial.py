"""The tutorial of docs/your-own-model.md, word by word, from the script to the page in the atlas."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ontogeny import own_settings
from ontogeny.rooms import part, with_own_models
from tests.workflow.conftest import Checkout

DOCS = Path(__file__).parents[2] / "docs" / "your-own-model.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)


def test_the_tutorial_ends_in_a_page(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (checkout.path / "train.py").write_text(blocks("python")[0])
    subprocess.run([sys.executable, "train.py"], cwd=checkout.path, check=True, timeout=120)
    entry = yaml.safe_load(blocks("yaml")[1])
    config = {**yaml.safe_load((checkout.path / "config.yaml").read_text()), **entry}
    (checkout.path / "config.yaml").write_text(yaml.safe_dump(config))
    target = ["results/own/my_network/figures", "results/own/my_network/examination"]
    done = checkout.snakemake(*target, "--cores", "1")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (checkout.path / "results/own/my_network/figures/pruning.svg").exists()
    assert checkout.planned(*target) == set()
    with (checkout.path / "pairs.csv").open("a") as table:
        table.write("0,0,5\n")
    assert checkout.planned(*target) == {"own", "own_figures"}


@pytest.mark.parametrize("study", with_own_models())
def test_every_field_is_explained(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert own_settings.main([study]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in part(study, "own_settings").OwnSettings.model_fields)
    assert f"| `{study}` |" in DOCS.read_text()


def test_an_unknown_study_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert own_settings.main(["deep_liner"]) == 2
    assert "did you mean 'deep_linear'" in capsys.readouterr().err
