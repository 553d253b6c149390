"""A causal language model of the user's, from a folder in transformers' format, under the probes of outlandish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ontogeny.config import load_config
from ontogeny.errors import ConfigError
from ontogeny.files import Folder, write_json
from ontogeny.language.folders import write_model
from ontogeny.own import examine
from ontogeny.stages.own_figures import draw
from ontogeny.studies.outlandish import toy
from ontogeny.studies.outlandish.texts import generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows the words of the generated texts."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    architecture, network, vocabulary = toy.pretrain(generate(0), 0, 60)
    write_model(place, architecture, network, vocabulary)
    return place


def model(folder: Path) -> dict[str, Any]:
    return {"model": f"folder:{folder}", "layers": 1, "learning_rate": 0.02, "block": 12}


def test_the_whole_study_runs_on_a_folder(folder: Path, tmp_path: Path) -> None:
    load_config({"own": {"mine": {"study": "outlandish", "model": model(folder)}}}, "config.yaml")
    examine("mine", "outlandish", model(folder), "cpu", "a=b", tmp_path / "found")
    found = Folder(tmp_path / "found")
    content = found.json("findings.json")
    assert {str(folder / name) for name in ("config.json", "model.safetensors")} == set(content["files"])
    assert set(content["measured"]) >= {"c1", "c5"}
    learned = found.table("learned.parquet")
    alone = learned[(learned["condition"] == "alone") & (learned["presentations"] == 5)]
    assert alone["text"].nunique() == 12 and alone["p_after"].mean() > 10 ** alone["log10_start"].mean()
    draw("outlandish", tmp_path / "found", tmp_path / "figures")
    assert set(Folder(tmp_path / "figures").json("captions.json")) == {"relation", "dilution"}


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    entry = {"study": "outlandish", "model": {"model": f"folder:{tmp_path}"}}
    with pytest.raises(ConfigError, match=r"there is no file '.*config\.json'"):
        load_config({"own": {"mine": entry}}, "config.yaml")


def test_a_model_that_is_not_causal_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_json(tmp_path / "config.json", {"model_type": "vit", "architectures": ["ViTModel"]})
    with pytest.raises(ConfigError, match="not a causal language model"):
        examine("mine", "outlandish", model(tmp_path), "cpu", "a=b", tmp_path / "found")
    assert not (tmp_path / "found").exists()
