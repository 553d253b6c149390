"""Exact versions of all packages, renewed together from one list of what is asked for.

python -m ontogeny.pins                        after an edit of envs/packages.toml
python -m ontogeny.pins --upgrade scipy torch  newest versions of two packages that the bounds allow
python -m ontogeny.pins --upgrade all          newest versions of all

envs/packages.toml says what each kind of work asks for. pip chooses the versions, and from its choice follow
requirements.txt, requirements-dev.txt and envs/*.yaml, so that an installation by pip and one by conda hold the same.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from ontogeny.errors import OntogenyError
from ontogeny.settings import Settings, validate

ROOT = Path(__file__).parents[2]
WANTED = "envs/packages.toml"
RUN, DEV = "requirements.txt", "requirements-dev.txt"

# What torch's CUDA build brings along. It names their exact versions itself, and the CPU build has none of them, so
# that leaving them out lets the same pins serve both builds.
OF_CUDA = re.compile(r"(nvidia|cuda)-.*|triton")

MADE = "Made by `make pins` from envs/packages.toml."
HEADERS = {
    RUN: "# What a run needs, pinned; `make reproduce` installs it into .venv. On Linux torch comes from the package\n"
    f"# index as the CUDA build. {MADE}\n",
    DEV: f"# What the tests need on top of a run. {MADE}\n-r {RUN}\n",
}

Pins = Mapping[str, str]  # package -> version


class Environment(Settings):
    """What one kind of work asks for."""

    about: str
    channels: list[str] = ["conda-forge"]
    packages: list[str]
    programs: list[str] = Field([], description="conda packages that are no Python packages of the run; unpinned")
    lacks: list[str] = Field([], description="packages that its modules import only in functions that it never calls")
    builds: dict[str, dict[str, str]] = Field({}, description="variant -> package -> build on the channel")

    def files(self, kind: str) -> dict[str, dict[str, str]]:
        """Stem of each environment file of this kind -> package -> build."""
        return {f"{kind}-{name}": builds for name, builds in self.builds.items()} or {kind: {}}


class Tests(Settings):
    """What the tests ask for."""

    packages: list[str]


class Wanted(Settings):
    """The content of envs/packages.toml."""

    python: str
    conda_names: dict[str, str] = Field(alias="conda-names")
    environments: dict[str, Environment]
    tests: Tests

    def asked_for(self, file: str) -> list[str]:
        """The requirements that a requirements file answers, each once, sorted."""
        kinds: Iterable[Environment | Tests] = [self.tests] if file == DEV else self.environments.values()
        return sorted({entry for kind in kinds for entry in kind.packages})


def load_wanted(root: Path = ROOT) -> Wanted:
    """Read the list. Raises ConfigError naming the key that is wrong."""
    path = root / WANTED
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise OntogenyError(f"{path}: {error}") from error
    wanted: Wanted = validate(Wanted, content, str(path))
    return wanted


def name_of(requirement: str) -> str:
    """'scipy' of 'scipy>=1.15', in the package index's own spelling."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if not found:
        raise OntogenyError(f"{WANTED}: '{requirement}' does not begin with the name of a package.")
    return canonical(found[0])


def canonical(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, str]:
    """Package -> version, of a requirements file. Raises OntogenyError on a line that is no exact version."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    wanted = [line for line in lines if line and not line.startswith(("#", "-r"))]
    for line in wanted:
        if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line):
            raise OntogenyError(f"{path}: '{line}' is not an exact version (name==version).")
    return dict(line.split("==") for line in wanted)


def render(wanted: Wanted, run: Pins, dev: Pins) -> dict[str, str]:
    """File -> text, for every file that follows from the list and the chosen versions."""
    files = {
        file: HEADERS[file] + _sections({name_of(entry) for entry in wanted.asked_for(file)}, pins)
        for file, pins in ((RUN, run), (DEV, dev))
    }
    for kind, environment in wanted.environments.items():
        for stem, builds in environment.files(kind).items():
            files[f"envs/{stem}.yaml"] = "\n".join(_environment(wanted, environment, builds, run)) + "\n"
    return files


def _sections(asked: set[str], pins: Pins) -> str:
    """The two sections of a requirements file."""
    direct = [f"{name}=={version}\n" for name, version in sorted(pins.items()) if name in asked]
    others = [f"{name}=={version}\n" for name, version in sorted(pins.items()) if name not in asked]
    return "\n# asked for\n" + "".join(direct) + "\n# what these bring along\n" + "".join(others)


def _environment(wanted: Wanted, environment: Environment, builds: Mapping[str, str], pins: Pins) -> Iterator[str]:
    """The lines of an environment file."""
    yield f"# {environment.about}"
    yield f"# {MADE}"
    yield "channels:"
    yield from (f"  - {channel}" for channel in [*environment.channels, "nodefaults"])
    yield "dependencies:"
    yield f"  - python ={wanted.python}"
    for name in sorted(map(name_of, environment.packages)):
        build = f" {builds[name]}" if name in builds else ""
        yield f"  - {wanted.conda_names.get(name, name)} =={pins[name]}{build}"
    yield from (f"  - {program}" for program in environment.programs)


def drift(root: Path = ROOT) -> list[str]:
    """What does not agree with the list, in words; empty when all does. Asks no package index."""
    from packaging.requirements import Requirement

    wanted, run, dev = load_wanted(root), read_pins(root / RUN), read_pins(root / DEV)
    problems = []
    for file, pins in ((RUN, run), (DEV, dev)):
        for requirement in map(Requirement, wanted.asked_for(file)):
            version = pins.get(canonical(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                problems.append(f"{file} has {version or 'no version'} of {requirement}")
    if problems:
        return problems
    files = render(wanted, run, dev)
    problems += [
        f"{file} is not what follows from {WANTED} and {RUN}" for file in files if not _same(root, file, files)
    ]
    surplus = {f"envs/{path.name}" for path in (root / "envs").glob("*.yaml")} - set(files)
    problems += [f"{file} is not in {WANTED}" for file in sorted(surplus)]
    return problems + [f"{path.name}: {reason}" for path in pin_files(root) for reason in stale(path)]


def _same(root: Path, file: str, files: Mapping[str, str]) -> bool:
    return (root / file).exists() and (root / file).read_text() == files[file]


def pin_files(root: Path = ROOT) -> list[Path]:
    """Explicit lists of conda packages for one platform (`make conda-pins`), which Snakemake prefers to the yaml."""
    return sorted((root / "envs").glob("*.pin.txt"))


def stale(pin_file: Path) -> list[str]:
    """Where an explicit list does not hold what its yaml asks for. Snakemake would not notice."""
    import yaml

    environment = pin_file.parent / f"{pin_file.name.split('.')[0]}.yaml"
    if not environment.exists():
        return ["has no environment beside it"]
    # …/linux-64/numpy-2.4.6-py311h2e04523_0.conda#digest
    found = re.findall(r"/([^/\s]+)-([^-/\s]+)-([^-/\s]+)\.(?:conda|tar\.bz2)", pin_file.read_text())
    present = {name: version for name, version, _ in found}
    problems = []
    for entry in yaml.safe_load(environment.read_text())["dependencies"]:
        if isinstance(entry, dict):
            problems.append(f"{environment.name} has a pip section, which an explicit list drops")
            continue
        name, _, version = str(entry).replace("==", "=").partition(" =")
        version = version.split(" ")[0]
        if name not in present:
            problems.append(f"lacks {name}")
        elif present[name] != version and not (present[name] + ".").startswith(version + "." if version else ""):
            problems.append(f"has {name} {present[name]}, {environment.name} asks for {version}")
    return problems


def choose(wanted: Wanted, run: Pins, dev: Pins, upgrade: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The versions that pip takes today for a run and for the tests; present ones stay unless named in `upgrade`."""
    renewed = {canonical(name) for name in upgrade}
    unknown = renewed - {"all", *run, *dev}
    if unknown:
        raise OntogenyError(f"{RUN} and {DEV} have no {', '.join(sorted(unknown))}.")

    def kept(pins: Pins) -> dict[str, str]:
        return {} if "all" in renewed else {name: pins[name] for name in pins if name not in renewed}

    new_run = _resolve(wanted.asked_for(RUN), kept(run))
    everything = _resolve(wanted.asked_for(RUN) + wanted.asked_for(DEV), {**kept(dev), **new_run})
    return new_run, {name: version for name, version in everything.items() if name not in new_run}


def _resolve(requirements: Sequence[str], constraints: Pins) -> dict[str, str]:
    """Ask pip for the versions that satisfy `requirements`, with the named versions fixed. Installs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        fixed, report = Path(folder) / "constraints.txt", Path(folder) / "report.json"
        fixed.write_text("".join(f"{name}=={version}\n" for name, version in constraints.items()))
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        options = ["--disable-pip-version-check", "--report", str(report), "--constraint", str(fixed)]
        done = subprocess.run([*command, *options, *requirements], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
            raise OntogenyError(
                f"pip finds no versions that go together. It says:\n{said}\n"
                'A present version may be in the way: renew it with `make pins UPGRADE="name …"` (or UPGRADE=all).'
            )
        installs = json.loads(report.read_text())["install"]
    chosen = {canonical(entry["metadata"]["name"]): entry["metadata"]["version"].split("+")[0] for entry in installs}
    return {name: version for name, version in sorted(chosen.items()) if not OF_CUDA.fullmatch(name)}


def renew(root: Path, upgrade: Sequence[str]) -> list[str]:
    """Write every file that is to change, remove explicit lists that are stale then, and return what was done."""
    wanted, run, dev = load_wanted(root), read_pins(root / RUN), read_pins(root / DEV)
    files = render(wanted, *choose(wanted, run, dev, upgrade))
    said = []
    for file, text in files.items():
        if not _same(root, file, files):
            (root / file).write_text(text)
            said.append(f"{file}: written")
    for path in sorted((root / "envs").glob("*.yaml")):
        if f"envs/{path.name}" not in files:
            path.unlink()
            said.append(f"envs/{path.name}: removed, {WANTED} does not name it")
    for path in pin_files(root):
        if reasons := stale(path):
            path.unlink()
            said.append(f"envs/{path.name}: removed ({reasons[0]}); `make conda-pins` makes it again")
    return said or ["nothing changes"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew the pins; the exit status tells whether they could be."""
    parser = argparse.ArgumentParser(prog="python -m ontogeny.pins", description="Renew all pins together.")
    parser.add_argument("--upgrade", nargs="+", default=[], metavar="PACKAGE", help="packages to renew, or: all")
    try:
        print("\n".join(renew(ROOT, parser.parse_args(arguments).upgrade)))
    except OntogenyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
