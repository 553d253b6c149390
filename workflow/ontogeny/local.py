"""Run a study's stages in one process, without Snakemake: for tests, and for writing a study.

python -m ontogeny.local deep_linear smoke /tmp/out           all stages but the figures
python -m ontogeny.local deep_linear smoke /tmp/out probe     from that stage on
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ontogeny.claims import ClaimResult, read_claims
from ontogeny.errors import OntogenyError
from ontogeny.files import MANIFEST
from ontogeny.sources import acquire, cache_root, load_registry
from ontogeny.stages.decide import decide
from ontogeny.stages.prepare import prepare
from ontogeny.stages.probe import ProbeConfig, probe
from ontogeny.stages.train import train
from ontogeny.study import Plan, load_room, load_study, plan

ORDER = ("prepare", "train", "probe", "claims")


def run_study(
    slug: str, scale: str, out: Path, overrides: Mapping[str, Any] | None = None, start: str = "prepare"
) -> dict[str, ClaimResult]:
    """Compute a study under `out` and return its claims by id.

    overrides: differences to the study, as in config.yaml. start: the first stage to do.
    """
    planned, spec = plan(slug, scale, overrides, where="overrides"), load_study(slug)
    todo = ORDER[ORDER.index(start) :]
    if "prepare" in todo:
        bases = [_base(base, scale, out / "bases" / base) for base in planned.bases]
        _prepare(planned, out, bases)
    if "train" in todo:
        _train_all(planned, out)
    if "probe" in todo:
        threads = spec.stage_resources("probe", scale).threads
        runs = [out / "runs" / name for name in planned.runs]
        columns = {name: list(table.columns) for name, table in spec.tables.items()}
        config = ProbeConfig(slug, scale, "auto")
        _timed("probe", lambda: probe(config, threads, columns, out / "data", runs, out / "probes"))
    _timed("claims", lambda: decide(slug, scale, out / "probes", out / "claims.json"))
    return read_claims(out / "claims.json")


def _base(slug: str, scale: str, out: Path) -> Plan:
    """Prepare and train a base, unless that was done before."""
    planned = plan(slug, scale)
    if not all((out / "runs" / name / MANIFEST).exists() for name in planned.runs):
        _prepare(planned, out, [])
        _train_all(planned, out)
    return planned


def _prepare(planned: Plan, out: Path, bases: list[Plan]) -> None:
    data = [out / "bases" / base.study / "data" for base in bases]
    runs = [out / "bases" / base.study / "runs" / name for base in bases for name in base.runs]
    receipts = _receipts(planned.sources, out)
    stage = partial(prepare, planned.study, planned.data, receipts, out / "data", data, runs)
    _timed(f"prepare {planned.study}", stage)


def _train_all(planned: Plan, out: Path) -> None:
    for name in planned.runs:
        _timed(f"train {name}", lambda name=name: _train(planned, name, out))


def _train(planned: Plan, name: str, out: Path) -> None:
    run = planned.runs[name]
    config = {
        "study": planned.study,
        "scale": planned.scale,
        "run": name,
        "row": run.row,
        "settings": run.settings,
        "seeds": list(run.seeds),
        "device": "auto",
    }
    threads = load_room(planned.study).stage_resources("train", planned.scale).threads
    train(config, threads, out / "data", out / "runs" / name, out / "state" / name, code="")


def _receipts(names: Sequence[str], out: Path) -> list[Path]:
    registry, paths = load_registry(), []
    for name in names:
        paths.append(out / "sources" / f"{name}.json")
        acquire(registry[name], cache_root(), lambda text: print(text, file=sys.stderr)).write(paths[-1])
    return paths


def _timed(label: str, work: Any) -> None:
    started = time.process_time()
    work()
    print(f"{label}: {time.process_time() - started:.1f} s of CPU", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """The command line: slug, scale, folder and, optionally, the first stage."""
    try:
        claims = run_study(arguments[0], arguments[1], Path(arguments[2]), start=(arguments[3:] or ["prepare"])[0])
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 1
    for claim in claims.values():
        print(f"{claim.claim}: {claim.verdict} ({claim.reason})")
        for test in claim.tests:
            print(
                f"    {test.test}: {test.estimate:.4g} [{test.ci_low}, {test.ci_high}] {test.criterion}: {test.verdict}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
