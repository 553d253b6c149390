"""A conda channel made of the packages that are installed here: nothing is downloaded.

Every distribution becomes one conda package under the name that conda-forge gives it, this machine's Python becomes the
package `python`. The channel serves the machine that made it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import zstandard
from packaging.requirements import Requirement

from ontogeny.pins import Wanted, canonical, name_of

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"lib/{PYTHON}/site-packages"
PLACEHOLDER = "/placeholder_of_the_prefix_" + "_" * 60  # what an installation replaces by the environment's folder
NOT_PACKED = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages"}


Content = Path | bytes | str


@dataclass
class Package:
    """A conda package in the making; `files` by their path inside it: a file here, a content, or a link's target."""

    name: str
    version: str
    build: str = "0"
    depends: Sequence[str] = ()
    files: dict[str, Content] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    def index(self, subdir: str) -> dict[str, Any]:
        """What the channel's index says of it."""
        return {
            "name": self.name, "version": self.version, "build": self.build, "build_number": 0, "subdir": subdir,
            "depends": sorted(self.depends), "timestamp": 1_700_000_000_000,
        }  # fmt: skip

    def write(self, folder: Path) -> dict[str, Any]:
        """Pack it into `folder` and return its entry for the channel's index."""
        path, index = folder / f"{self.stem}.conda", self.index(folder.name)
        about = {"index.json": index, "paths.json": {"paths": [*self._paths()], "paths_version": 1}, "about.json": {}}
        if self.name == "python":
            index["python_site_packages_path"] = SITE
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
            _pack(archive, f"pkg-{self.stem}.tar.zst", self.files)
            info: dict[str, Content] = {f"info/{name}": json.dumps(text).encode() for name, text in about.items()}
            _pack(archive, f"info-{self.stem}.tar.zst", info)
        content = path.read_bytes()
        return {
            **index,
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }

    def _paths(self) -> Iterator[dict[str, Any]]:
        for name, content in self.files.items():
            link = isinstance(content, str) or (isinstance(content, Path) and content.is_symlink())
            entry = {"_path": name, "path_type": "softlink" if link else "hardlink"}
            if isinstance(content, bytes) and PLACEHOLDER.encode() in content:
                entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
            yield entry


def _pack(archive: zipfile.ZipFile, member: str, files: dict[str, Content]) -> None:
    """Add `files` to `archive` as one compressed tar."""
    with (
        archive.open(member, "w", force_zip64=True) as sink,
        zstandard.ZstdCompressor(level=1).stream_writer(sink, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for name, content in sorted(files.items()):
            if isinstance(content, Path):
                tar.add(content, name, recursive=False)
                continue
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
                tar.addfile(entry, io.BytesIO(content))


def python() -> Package:
    """This Python, without tests and graphical parts."""
    package = Package("python", ".".join(map(str, sys.version_info[:3])))
    base, library = Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))
    package.files[f"bin/{PYTHON}"] = Path(os.path.realpath(base / "bin" / PYTHON))
    for name in ("python", "python3"):
        package.files[f"bin/{name}"] = PYTHON
    for path in (base / "lib").glob(f"lib{PYTHON}.so*"):
        package.files[f"lib/{path.name}"] = path
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in NOT_PACKED and not name.startswith(("config-", "__pyc"))]
        for path in (Path(folder) / name for name in names if name != "EXTERNALLY-MANAGED"):
            if path.suffix not in (".pyc", ".a") and not path.name.startswith(("_tkinter", "_test")):
                package.files[f"lib/{PYTHON}/{path.relative_to(library)}"] = path
    return package


def requirements_of(name: str, extras: Iterable[str] = ()) -> list[Requirement]:
    """What an installed distribution, with `extras`, needs on this machine."""
    needed = map(Requirement, metadata.requires(name) or [])
    ways = [{"extra": extra} for extra in ("", *extras)]
    return [r for r in needed if r.marker is None or any(r.marker.evaluate(way) for way in ways)]


def closure(names: Iterable[str]) -> set[str]:
    """The distributions that `names` bring along when they are installed, themselves included."""
    found, todo = set[tuple[str, frozenset[str]]](), {(canonical(name), frozenset[str]()) for name in names}
    while todo:
        found |= todo
        needed = [requirement for name, extras in todo for requirement in requirements_of(name, extras)]
        todo = {(canonical(r.name), frozenset(r.extras)) for r in needed} - found
    return {name for name, _ in found}


def installed(name: str, wanted: Wanted, build: str) -> Package:
    """An installed distribution as a package."""

    def called(name: str) -> str:
        return wanted.conda_names.get(name, name)

    distribution = metadata.distribution(name)
    version = distribution.version.split("+")[0]
    depends = [f"python {wanted.python}.*", *map(called, closure([name]) - {name})]
    package = Package(called(name), version, build, depends)
    site = Path(str(distribution.locate_file(""))).resolve()
    for file in distribution.files or ():
        path = Path(os.path.normpath(site / file))
        inside = path.relative_to(sys.prefix) if path.is_relative_to(sys.prefix) else None
        if inside is None or path.suffix == ".pyc" or path.name in ("RECORD", "REQUESTED", "direct_url.json"):
            continue
        text = path.read_bytes() if inside.parts[0] == "bin" else b""
        if re.match(rb"#!.*python", text):  # rather the environment's Python than the one that it was installed with
            package.files[str(inside)] = f"#!{PLACEHOLDER}/bin/{PYTHON}\n".encode() + text.split(b"\n", 1)[1]
        elif path.name == "INSTALLER":
            package.files[str(inside)] = b"conda\n"
        else:
            package.files[str(inside)] = path
    return package


def build_channel(channel: Path, subdir: str, wanted: Wanted) -> None:
    """Make the channel that serves every environment of the list.

    The torch that is installed goes by the build `cpu`. Of the build `cuda` there is an empty package that asks for a
    GPU as the real one does, so that one can see when it is chosen. Programs are empty packages too: the machine's own
    stand in for them.
    """
    names = closure([name_of(entry) for kind in wanted.environments.values() for entry in kind.packages] + ["pip"])
    variants = {name for kind in wanted.environments.values() for builds in kind.builds.values() for name in builds}
    packages = [python(), *(installed(name, wanted, "cpu_0" if name in variants else "0") for name in sorted(names))]
    for real in [package for package in packages if package.build == "cpu_0"]:
        packages.append(Package(real.name, real.version, "cuda_0", [*real.depends, "__cuda"]))
    programs = {program for kind in wanted.environments.values() for program in kind.programs}
    packages += [Package(program, "1.0") for program in sorted(programs - {package.name for package in packages})]
    for folder in (channel / subdir, channel / "noarch"):
        folder.mkdir(parents=True)
    index = {f"{package.stem}.conda": package.write(channel / subdir) for package in packages}
    for folder, entries in ((channel / subdir, index), (channel / "noarch", {})):
        content = {"info": {"subdir": folder.name}, "packages": {}, "packages.conda": entries, "repodata_version": 1}
        (folder / "repodata.json").write_text(json.dumps(content))
