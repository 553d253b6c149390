"""A damaged file stops the stage that reads it, with its name and the way out; following that way out repairs it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ontogeny.files import sha256
from tests.workflow.conftest import SMOKE, Checkout, scaffold_checkout

ALPHA = "results/smoke/alpha"
REPORT = "../report/index.html"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The scaffold's study with a source, finished at smoke scale; its cache is its own."""
    checkout = scaffold_checkout(tmp_path_factory.mktemp("damage"))
    path = checkout.path / "workflow/ontogeny/studies/alpha/study.yaml"
    path.write_text(path.read_text().replace("sources: []", "sources: [mnist]"))
    done = checkout.module("ontogeny.reproduce", "--cores", "2", *SMOKE)
    assert done.returncode == 0, done.stdout
    return checkout


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


# what is damaged and how, the stage that reads it, the stage to repeat after following the way out
CASES: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("data/loss.npz", truncate, "train", "prepare"),
    ("data/manifest.json", truncate, "train", "prepare"),
    ("runs/decay-s0-2/history.parquet", Path.unlink, "probe", "train"),
    ("runs/decay-s0-2/manifest.json", Path.unlink, "probe", "train"),
    ("probes/rates.parquet", garble, "claims", "probe"),
]


@pytest.fixture(scope="module")
def computed(finished: Checkout) -> Path:
    """The same study computed in one process, for damage that needs no Snakemake."""
    done = finished.module("ontogeny.local", "alpha", "smoke", "computed")
    assert done.returncode == 0, done.stdout
    return finished.path / "computed"


@pytest.mark.parametrize(("name", "damage", "stage", "again"), CASES, ids=[case[0] for case in CASES])
def test_a_stage_names_the_damage_and_its_advice_repairs_it(
    finished: Checkout,
    computed: Path,
    tmp_path: Path,
    name: str,
    stage: str,
    again: str,
    damage: Callable[[Path], None],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(computed, out)
    damage(out / name)
    done = finished.module("ontogeny.local", "alpha", "smoke", str(out), stage)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    way_out = re.search(r"rm -r '([^']+)'", done.stdout)
    assert way_out, done.stdout
    assert name.split("/")[0] in way_out[1]
    remove(Path(way_out[1]))
    assert finished.module("ontogeny.local", "alpha", "smoke", str(out), again).returncode == 0
    assert sha256(out / name) == sha256(computed / name)


@pytest.mark.parametrize(
    ("name", "damage", "later"),
    [
        ("runs/decay-s0-2/history.parquet", garble, ["probes", "claims.json", "figures", "notebook.html", REPORT]),
        ("claims.json", truncate, [REPORT]),
        ("logs/figures.ipynb", truncate, ["notebook.html", REPORT]),
    ],
)
def test_the_workflow_names_the_damage_and_its_advice_repairs_it(
    finished: Checkout, name: str, damage: Callable[[Path], None], later: list[str]
) -> None:
    path = finished.path / ALPHA / name
    before = sha256(path)
    damage(path)
    for product in later:  # so that the stage that reads the damaged file has to run
        remove(finished.path / ALPHA / product)
    done = finished.module("ontogeny.reproduce", "--cores", "1", *SMOKE)
    assert done.returncode != 0, done.stdout
    assert "Traceback (most recent call last)" not in done.stdout
    way_out = re.search(r"rm -r '([^']+)'", done.stdout)
    assert way_out, done.stdout
    remove(finished.path / way_out[1])
    repaired = finished.module("ontogeny.reproduce", "--cores", "2", *SMOKE)
    assert repaired.returncode == 0, repaired.stdout
    if path.suffix != ".ipynb":  # the raw notebook holds times
        assert sha256(path) == before


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_a_damaged_receipt_is_named(finished: Checkout) -> None:
    receipt = finished.path / "results/sources/mnist.json"
    before = receipt.read_text()
    truncate(receipt)
    remove(finished.path / "results/smoke")
    done = finished.module("ontogeny.reproduce", "--cores", "1", *SMOKE)
    assert done.returncode != 0
    assert "mnist.json" in done.stdout
    receipt.unlink()
    assert finished.module("ontogeny.reproduce", "--cores", "2", *SMOKE).returncode == 0
    assert receipt.read_text() == before
