"""The pins agree with the list that they are made from, and the environments hold what their stages import."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from ontogeny import pins
from ontogeny.errors import OntogenyError
from tests import stages
from tests.conda.packages import closure

ROOT = pins.ROOT
WANTED = pins.load_wanted()


def test_the_pins_follow_from_the_list() -> None:
    assert pins.drift() == []


@pytest.mark.parametrize(("file", "asked"), [(pins.RUN, [pins.RUN]), (pins.DEV, [pins.RUN, pins.DEV])])
def test_the_pins_hold_all_that_the_list_brings_along_and_no_more(file: str, asked: list[str]) -> None:
    names = closure(pins.name_of(entry) for name in asked for entry in WANTED.asked_for(name))
    needed = {name for name in names if not pins.OF_CUDA.fullmatch(name)}
    if file == pins.DEV:
        needed -= set(pins.read_pins(ROOT / pins.RUN))
    assert needed == set(pins.read_pins(ROOT / file))


def test_the_pinned_versions_are_installed() -> None:
    for file in (pins.RUN, pins.DEV):
        for name, version in pins.read_pins(ROOT / file).items():
            assert metadata.version(name).split("+")[0] == version, name


def test_every_rule_names_an_environment_and_every_environment_serves_a_rule() -> None:
    assert set(stages.kinds()) | {"control"} == set(WANTED.environments)
    assert sorted(stage for found in stages.kinds().values() for stage in found) == sorted(stages.fingerprint.DRIVERS)


def test_only_the_stages_that_compute_have_torch() -> None:
    with_torch = {path.stem for path in (ROOT / "envs").glob("*.yaml") if "pytorch" in path.read_text()}
    assert with_torch == {"train-cpu", "train-cuda"}


@pytest.mark.parametrize("kind", WANTED.environments)
def test_an_environment_holds_what_its_stages_import(kind: str) -> None:
    always, ever = imports_of(kind)
    environment = WANTED.environments[kind]
    present = closure(map(pins.name_of, environment.packages))
    assert always <= present, f"add to `packages` of {kind} in {pins.WANTED}, then `make pins`"
    assert ever - present == set(environment.lacks), (
        f"`packages` and `lacks` of {kind} in {pins.WANTED} leave these open"
    )


def imports_of(kind: str) -> tuple[set[str], set[str]]:
    """Distributions that the stages of a kind of work import: at once, and at once or in some function."""
    if kind == "control":  # a function that works on tables or tensors is never called while planning
        always = stages.distributions(stages.control_imports("always"))
        return always, always
    always_ever = [
        {name for stage in stages.kinds()[kind] for name in stages.distributions(stages.imports(stage, when))}
        for when in ("always", "ever")
    ]
    return always_ever[0], always_ever[1]


@pytest.mark.parametrize("name", ["Dockerfile", "ontogeny.def"])
def test_the_containers_install_the_pins(name: str) -> None:
    text = (ROOT / "containers" / name).read_text()
    assert f"python:{WANTED.python}-slim" in text
    assert f"pip install --no-cache-dir -r /opt/ontogeny/{pins.RUN}" in text
    assert "==" not in text, "a version beside the pins"
    for part in ("Snakefile", "config.yaml", "config", "rules", "envs", "notebooks", "workflow", pins.RUN):
        assert f"/opt/ontogeny/{part}\n" in text or f" {part} /opt/ontogeny/\n" in text or f"COPY {part} " in text, part


# What `make pins` does


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the list and of all that follows from it."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    for name in (pins.RUN, pins.DEV):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("requirements.txt", "scipy==1", "scipy==0", "not what follows"),
        ("requirements.txt", "scipy==", "scapy==", "no version of scipy"),
        ("envs/claims.yaml", "scipy ==1", "scipy ==0", "envs/claims.yaml is not what follows"),
        ("envs/packages.toml", '"scipy"', '"scipy<1"', "of scipy<1"),
        ("envs/packages.toml", "environments.claims", "environments.decide", "envs/claims.yaml is not in"),
    ],
)
def test_drift_is_noticed(tree: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(tree / file, old, new)
    assert any(problem in found for found in pins.drift(tree)), pins.drift(tree)


def test_all_files_are_renewed_together(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package more and a version more: in every file that has them, once."""

    def resolve(requirements: Sequence[str], constraints: pins.Pins) -> dict[str, str]:
        fresh = {pins.name_of(entry): "9.9" for entry in requirements}
        return {**fresh, **constraints}

    monkeypatch.setattr(pins, "_resolve", resolve)
    edit(tree / "envs" / "packages.toml", '    "snakemake",', '    "snakemake",\n    "a-new-one>=2",')
    said = pins.renew(tree, ["scipy"])
    assert pins.drift(tree) == []
    run = pins.read_pins(tree / "requirements.txt")
    assert (run["a-new-one"], run["scipy"], run["numpy"]) == ("9.9", "9.9", pins.read_pins(ROOT / pins.RUN)["numpy"])
    assert "  - a-new-one ==9.9" in (tree / "envs" / "control.yaml").read_text()
    assert "  - scipy ==9.9" in (tree / "envs" / "claims.yaml").read_text()
    assert {line.split(":")[0] for line in said} >= {"requirements.txt", "envs/control.yaml", "envs/train-cpu.yaml"}
    assert "requirements-dev.txt: written" not in said


def test_an_unknown_package_to_renew_is_refused(tree: Path) -> None:
    with pytest.raises(OntogenyError, match=r"have no numpi\."):
        pins.renew(tree, ["numpi"])


def test_a_wrong_key_of_the_list_is_refused_by_name(tree: Path) -> None:
    edit(tree / "envs" / "packages.toml", "lacks =", "lack =")
    with pytest.raises(OntogenyError, match="lacks"):
        pins.load_wanted(tree)


def test_an_explicit_list_must_hold_what_its_environment_asks_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake takes the list instead of the yaml and does not compare them."""
    environment = tree / "envs" / "claims.yaml"
    listed = tree / "envs" / "claims.linux-64.pin.txt"
    entries = [
        entry.replace("==", "=").split(" =") for entry in yaml.safe_load(environment.read_text())["dependencies"]
    ]
    address = "https://example.org/linux-64/{}-{}-py311h_0.conda#0123"
    lines = [address.format(name, version.replace("3.11", "3.11.9")) for name, version in entries]
    listed.write_text("\n".join(["# platform: linux-64", "@EXPLICIT", *lines]))
    assert pins.drift(tree) == []
    edit(listed, "/scipy-1", "/scipy-0")
    assert [problem.split(": ")[1][:9] for problem in pins.drift(tree)] == ["has scipy"]
    edit(listed, "/scipy-0", "/sciipy-0")
    assert pins.stale(listed) == ["lacks scipy"]
    monkeypatch.setattr(pins, "_resolve", lambda requirements, constraints: {**constraints})
    assert any("removed (lacks scipy)" in line for line in pins.renew(tree, []))
    assert not listed.exists()


def test_a_pip_section_forbids_an_explicit_list(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("dependencies:\n  - pip\n  - pip:\n    - numpy==2\n")
    listed = tmp_path / "a.linux-64.pin.txt"
    listed.write_text("https://example.org/noarch/pip-26.1-pyh_0.conda\n")
    assert pins.stale(listed) == ["a.yaml has a pip section, which an explicit list drops"]
