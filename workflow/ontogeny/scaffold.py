"""Make a new study: a folder, a notebook and a test that work, with marks where the author fills in.

python -m ontogeny.scaffold my_study
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ontogeny.errors import ConfigError, OntogenyError
from ontogeny.files import write_text
from ontogeny.rooms import STUDIES

ROOT = STUDIES.parents[2]
TEMPLATES = ROOT / "workflow" / "scaffold"


def destinations(slug: str, root: Path = ROOT) -> dict[Path, Path]:
    """Template -> the file that it becomes."""
    places = {
        "notebook.ipynb": root / "notebooks" / f"{slug}.ipynb",
        "test_study.py": root / "tests" / "studies" / f"test_{slug}.py",
    }
    room = root / "workflow" / "ontogeny" / "studies" / slug
    return {file: places.get(file.name, room / file.name) for file in sorted(TEMPLATES.iterdir()) if file.is_file()}


def make_study(slug: str, root: Path = ROOT) -> list[Path]:
    """Write the files of a new study. Raises ConfigError for a bad name, or one that is taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise ConfigError(f"'{slug}' is no name for a study: use lower-case letters, digits and underscores.")
    files = destinations(slug, root)
    taken = [path for path in files.values() if path.exists()]
    if taken:
        raise ConfigError(f"{taken[0]}: exists already; choose another name, or remove the study first.")
    for template, path in files.items():
        write_text(path, template.read_text().replace("@slug@", slug))
    return list(files.values())


def main(arguments: list[str]) -> int:
    """The command line: the study's slug."""
    if len(arguments) != 1:
        print("usage: make new-study NAME=my_study", file=sys.stderr)
        return 2
    try:
        files = make_study(arguments[0])
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 1
    print("Made, and ready to run:")
    for path in files:
        marks = path.read_text().count("FILL IN")
        print(f"  {path.relative_to(ROOT)}" + (f"   ({marks} places to fill in)" if marks else ""))
    print(f"\nTry it:      make reproduce STUDIES={arguments[0]} SCALE=smoke")
    print("Then search for FILL IN, and read 'Adding a study' in CONTRIBUTING.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
