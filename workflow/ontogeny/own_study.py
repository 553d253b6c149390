"""A user's model in the place of a study's own: the whole study runs on it, and judges by its own criteria."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ontogeny.files import Folder
from ontogeny.local import run_study
from ontogeny.own import Examination


def whole_study(study: str, overrides: Mapping[str, Any]) -> Examination:
    """Run a study at laptop scale with differences to its settings, as in config.yaml, in a folder that does not last.

    Several texts or seeds give the study's own intervals, so its verdicts stand among the facts.
    """
    with tempfile.TemporaryDirectory(prefix="ontogeny-own-") as work:
        claims = run_study(study, "laptop", Path(work), overrides)
        probes = Folder(Path(work) / "probes")
        names = [name for name in probes.manifest if name.endswith(".parquet")]
        tables = {name.removesuffix(".parquet"): probes.table(name) for name in names}
    measured = {name: {test.test: test.estimate for test in claim.tests} for name, claim in claims.items()}
    facts = [(f"{name}: {claim.statement}", f"{claim.verdict} ({claim.reason})") for name, claim in claims.items()]
    return Examination(measured, tables, facts)
