"""Files: written whole or not at all, and damage is seen by whoever reads."""

import errno

import numpy as np
import pandas as pd
import pytest
import torch

from ontogeny.errors import DamagedFile, OntogenyError
from ontogeny.files import Folder, OutFolder, atomic, read_json, read_table, sha256, write_json, write_table


@pytest.fixture
def published(tmp_path):
    folder = OutFolder(tmp_path / "data")
    folder.save_arrays("a.npz", x=np.arange(3), y=np.eye(2))
    folder.save_tensors("t.safetensors", {"w": torch.arange(6.0).reshape(2, 3).T})
    folder.save_table("t.parquet", pd.DataFrame({"seed": [0, 1], "loss": [0.5, 0.25]}))
    folder.save_json("c.json", {"b": 1})
    folder.publish()
    return Folder(tmp_path / "data")


def test_what_was_saved_comes_back(published):
    assert published.arrays("a.npz")["y"].tolist() == np.eye(2).tolist()
    assert published.tensors("t.safetensors")["w"].tolist() == torch.arange(6.0).reshape(2, 3).T.tolist()
    assert published.table("t.parquet")["loss"].tolist() == [0.5, 0.25]
    assert published.json("c.json") == {"b": 1}


def test_nothing_is_there_before_publishing(tmp_path):
    folder = OutFolder(tmp_path / "data")
    folder.save_json("c.json", 1)
    assert not (tmp_path / "data").exists()


def test_the_same_content_gives_the_same_bytes(tmp_path):
    digests = []
    for name in ("one", "two"):
        folder = OutFolder(tmp_path / name)
        folder.save_arrays("a.npz", x=np.arange(3))
        folder.save_tensors("t.safetensors", {"b": torch.ones(2), "a": torch.zeros(1)})
        folder.save_table("t.parquet", pd.DataFrame({"x": [1.0, 2.0]}))
        folder.publish()
        digests.append(sha256(tmp_path / name / "manifest.json"))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["a.npz", "t.safetensors", "t.parquet", "c.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damage_is_seen_and_the_message_names_the_way_out(published, name, damage):
    path = published.path / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-3] if damage == "truncate" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedFile, match=r"(?s)data.*rm -r"):
        published.file(name)


def test_a_file_that_the_manifest_does_not_list_is_refused(published):
    (published.path / "stray.json").write_text("{}")
    with pytest.raises(DamagedFile, match="does not list"):
        published.json("stray.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "c.json"
    write_json(path, {"old": True})
    with pytest.raises(ValueError, match=r"NaN|nan|Out of range"):
        write_json(path, {"new": float("nan")})
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": True}
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]


def test_a_full_disk_gives_one_clear_message(tmp_path):
    with pytest.raises(OntogenyError, match=r"t\.parquet.*No space left"), atomic(tmp_path / "t.parquet"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reader", [read_json, read_table])
def test_readers_name_a_missing_file(tmp_path, reader):
    with pytest.raises(DamagedFile, match="absent"):
        reader(tmp_path / "absent")


def test_tables_are_the_same_bytes_whatever_their_index(tmp_path):
    table = pd.DataFrame({"x": [3.0, 1.0]})
    write_table(tmp_path / "a.parquet", table)
    write_table(tmp_path / "b.parquet", table.set_index(pd.Index([7, 9])))
    assert sha256(tmp_path / "a.parquet") == sha256(tmp_path / "b.parquet")
