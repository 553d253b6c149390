"""JSON schemas of config.yaml, study.yaml and base.yaml, made from the typed models: for editors, and other programs.

python -m ontogeny.schemas        write workflow/schemas/*.schema.json again
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ontogeny.config import Config
from ontogeny.files import write_text
from ontogeny.rooms import STUDIES
from ontogeny.settings import Settings
from ontogeny.study import BaseSpec, StudySpec

FOLDER = STUDIES.parents[1] / "schemas"
MODELS: dict[str, type[Settings]] = {"config": Config, "study": StudySpec, "base": BaseSpec}


def schema_text(name: str) -> str:
    """The schema of `config`, `study` or `base` as it stands in the file."""
    return json.dumps(MODELS[name].model_json_schema(), indent=1) + "\n"


def schema_file(name: str) -> Path:
    """Where the schema of `config`, `study` or `base` lies."""
    return FOLDER / f"{name}.schema.json"


def main() -> int:
    """Write every schema."""
    for name in MODELS:
        write_text(schema_file(name), schema_text(name))
        print(f"workflow/schemas/{schema_file(name).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
