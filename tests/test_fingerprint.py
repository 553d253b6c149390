"""Fingerprints follow what code does, not how it is written."""

import pytest

from ontogeny import fingerprint
from ontogeny.rooms import all_studies

CODE = 'def f(x):\n    """Say."""\n    # why\n    return x + 1\n'


@pytest.fixture
def digest(tmp_path, monkeypatch):
    def of(text: str) -> str:
        file = tmp_path / "module.py"
        file.write_text(text)
        monkeypatch.setattr(fingerprint, "module_file", lambda module: file)
        fingerprint.module_digest.cache_clear()
        return fingerprint.module_digest("module")

    yield of
    fingerprint.module_digest.cache_clear()


@pytest.mark.parametrize("same", [
    'def f(x):\n    """Say something else."""\n    return x + 1\n',
    "def f(x):\n\n    return (x\n            + 1)\n",
    '"""A module docstring."""\n' + CODE,
])  # fmt: skip
def test_comments_docstrings_and_layout_do_not_count(digest, same):
    reference = digest(CODE)
    assert digest(same) == reference


@pytest.mark.parametrize("other", [
    CODE.replace("+ 1", "+ 2"),
    CODE.replace("def f", "def g"),
    CODE.replace("(x)", "(x, y=0)"),
    CODE + "f(1)\n",
])  # fmt: skip
def test_code_counts(digest, other):
    reference = digest(CODE)
    assert digest(other) != reference


def test_a_stage_names_what_it_imports_and_no_more():
    train = fingerprint.stage_modules("train")
    assert {"ontogeny.run", "ontogeny.files", "ontogeny.device"} <= set(train)
    assert not {"ontogeny.claims", "ontogeny.plots", "ontogeny.report", "ontogeny.sources"} & set(train)
    assert "ontogeny.run" not in fingerprint.stage_modules("claims")


@pytest.mark.parametrize("study", all_studies())
def test_a_study_depends_on_no_other_study(study):
    for stage in ("prepare", "train", "probe", "claims", "figures"):
        rooms = {name.split(".")[2] for name in fingerprint.stage_modules(stage, study) if ".studies." in name}
        assert rooms <= {study}


def test_encode_and_decode_are_inverse():
    code = {"ontogeny.b": "22", "ontogeny.a": "11"}
    assert fingerprint.decode(fingerprint.encode(code)) == code
