"""Stands in for the program `conda`: python -I front_end.py ROOT COMMAND …

It knows the commands that Snakemake and snakedeploy call. Solving, linking, the package cache and virtual packages are
rattler's, so they are real; whatever channels an environment file names, packages come from ROOT/channel. Not real are
conda's own code and messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "24.7.1"  # the oldest that Snakemake 9 takes
SUBDIRS = {("Linux", "x86_64"): "linux-64", ("Linux", "aarch64"): "linux-aarch64", ("Darwin", "arm64"): "osx-arm64"}
LONG = {"-p": "--prefix", "-f": "--file"}
VALUED = set(LONG.values())  # the options that a value follows


class CondaError(Exception):
    """What conda would end with."""


@dataclass
class Call:
    """A command line taken apart."""

    words: list[str]
    options: dict[str, str]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Call:
        words, options, rest = list[str](), dict[str, str](), iter(arguments)
        for argument in rest:
            name, has_value, value = argument.partition("=")
            name = LONG.get(name, name)
            if not name.startswith("-"):
                words.append(argument)
            elif name in VALUED and not has_value:
                options[name] = next(rest, "")
            else:
                options[name] = value
        return cls(words, options)

    @property
    def prefix(self) -> Path:
        if "--prefix" not in self.options:
            raise CondaError("this stand-in needs --prefix")
        return Path(self.options["--prefix"]).absolute()


class Conda:
    """The commands, with `root` for the installation's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.channel = root / "channel"
        self.subdir = SUBDIRS[platform.system(), platform.machine()]

    def run(self, arguments: Sequence[str]) -> None:
        call = Call.parse(arguments)
        match call.words:
            case [] if "--version" in call.options:
                print(f"conda {VERSION}")
            case ["info"]:
                print(json.dumps({"conda_prefix": str(self.root), "platform": self.subdir, "conda_version": VERSION}))
            case ["config", "channel_priority"]:
                print(json.dumps({"get": {"channel_priority": "strict"}}))
            case ["clean"]:
                pass
            case ["env", "create"]:
                self.create(call.prefix, self.specs(Path(call.options["--file"])), "--dry-run" in call.options)
            case ["env", "remove"]:
                shutil.rmtree(call.prefix)
            case ["create"]:
                self.create(call.prefix, self.explicit(Path(call.options["--file"])))
            case ["list"]:
                self.list(call.prefix)
            case ["activate-code", prefix]:
                print(activation(Path(prefix)))
            case _:
                raise CondaError(f"not a command of this stand-in: {' '.join(arguments)}")

    def specs(self, file: Path) -> list[str]:
        """What an environment file asks for."""
        import yaml

        dependencies = yaml.safe_load(file.read_text())["dependencies"]
        if not all(isinstance(entry, str) for entry in dependencies):
            raise CondaError(f"{file}: this stand-in has no pip sections")
        return list(dependencies)

    def explicit(self, file: Path) -> list[str]:
        """What an explicit list names, each package with its digest checked."""
        index = json.loads((self.channel / self.subdir / "repodata.json").read_text())["packages.conda"]
        specs = []
        for line in file.read_text().splitlines():
            if not line or line.startswith(("#", "@")):
                continue
            address, _, digest = line.partition("#")
            record = index.get(address.rsplit("/", 1)[-1])
            if record is None:
                raise CondaError(f"HTTP 404 NOT FOUND for url <{address}>")
            if digest and digest != record["md5"]:
                raise CondaError(f"ChecksumMismatchError: {address} is not {digest}")
            specs.append(f"{record['name']} =={record['version']} {record['build']}")
        return specs

    def create(self, prefix: Path, specs: Sequence[str], dry: bool = False) -> None:
        """Solve, and link the packages into `prefix` unless `dry`; then only name them."""
        import rattler

        async def work() -> None:
            found = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())
            records: list[Any] = await rattler.solve(
                [self.channel.as_uri()],
                list(specs),
                platforms=[self.subdir, "noarch"],  # type: ignore[list-item]
                virtual_packages=[package.into_generic() for package in found],
            )
            if dry:
                print(json.dumps({r.name.normalized: f"{r.version} {r.build}" for r in records}))
                return
            await rattler.install(records, prefix, cache_dir=self.root / "pkgs", show_progress=False)
            (prefix / "conda-meta" / "history").touch()

        asyncio.run(work())

    def list(self, prefix: Path) -> None:
        """The explicit list of what is in `prefix`, as `conda list --explicit --md5`."""
        print(f"# platform: {self.subdir}\n@EXPLICIT")
        for file in sorted((prefix / "conda-meta").glob("*.json")):
            record = json.loads(file.read_text())
            print(f"{record['url']}#{record['md5']}")


def activation(prefix: Path) -> str:
    """Shell code that activates the environment `prefix`."""
    if not (prefix / "conda-meta").is_dir():
        raise CondaError(f"EnvironmentLocationNotFound: Not a conda environment: {prefix}")
    quoted = shlex.quote(str(prefix))
    return f'export CONDA_PREFIX={quoted} CONDA_DEFAULT_ENV={quoted} PATH={quoted}/bin:"$PATH"; hash -r'


def main() -> int:
    """Run one command."""
    try:
        Conda(Path(sys.argv[1])).run(sys.argv[2:])
    except Exception as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        print(f"{type(error).__name__}: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # rattler's threads outlive the work: an ordinary exit crashes now and then
