"""`make why` says in words what would run and what changed."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

from ontogeny import changes
from ontogeny.changes import code_difference, values_changed
from ontogeny.errors import OntogenyError
from ontogeny.events import Job
from ontogeny.why import Plan, parse_params, parse_reason, planned_jobs, report

OLD, NEW = "ontogeny=000000000000 ontogeny.a=000000000001", "ontogeny=000000000000 ontogeny.a=000000000002"
PARAMS = "Params have changed since last execution: Union of exclusive params before and now across all output: "


def job(rule: str, reason: str, run: str = "", **files: list[str]) -> Job:
    """A planned job of the study `s`."""
    wildcards = {"scale": "smoke", "study": "s", **({"run": run} if run else {})}
    output = f"results/smoke/s/runs/{run}" if run else f"results/smoke/s/{rule}"
    return Job(0, rule, wildcards, reason, **{"output": [output], "log": [], **files})


def remember(folder: Path, output: str, **record: Any) -> None:
    """What Snakemake writes down about a job that has run."""
    path = folder / ".snakemake/metadata" / urlsafe_b64encode(output.encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_reasons_are_taken_apart() -> None:
    parts = parse_reason(
        "Updated input files: a, b; Input files updated by another job: c; Code has changed since last execution; "
        f"{PARAMS}before: 'x; now: y' now: 2 ; Software environment definition has changed since last execution"
    )
    assert list(parts) == ["updated", "upstream", "script", "params", "environment"]
    assert (parts["updated"], parts["upstream"]) == ("a, b", "c")
    assert parse_params(parts["params"]) == (["x; now: y"], [2])


def test_parameters_that_came_or_went_are_read() -> None:
    assert parse_params("…: before: <nothing exclusive> now: [1, 2],'a now: b' ") == ([], [[1, 2], "a now: b"])
    with pytest.raises(ValueError, match="object"):
        parse_params("…: before: <object> now: 1 ")


@pytest.mark.parametrize(
    ("rule", "before", "now", "words"),
    [
        ("train", [{"lr": 0.1, "k": 1}], [{"lr": 0.2, "k": 1}], ["setting lr: 0.1 -> 0.2"]),
        ("prepare", [{"k": 1}], [{"k": 1, "new": 2}], ["data setting new: (absent) -> 2"]),
        ("train", [[0, 1, 2]], [[0, 1, 2, 3]], ["seeds: 0–2 -> 0–3"]),
        ("train", [OLD, "cpu"], ["cuda", NEW], ["device: 'cpu' -> 'cuda'", "code changed in ontogeny.a"]),
        ("probe", [1], [2], ["threads: 1 -> 2"]),
        ("claims", [{"c": {"t": {"above": 1}}}], [{"c": {"t": {"above": 2}}}], ["claim c.t.above: 1 -> 2"]),
        ("claims", [["a"]], [["a", "b"]], ["deviations: 'b' new"]),
        ("report", [{"s": '{"x": 1}', "t": "2"}], [{"s": '{"x": 2}', "t": "2"}], ["study.yaml of s changed"]),
        ("acquire", ['{"sha256": "a"}'], ['{"sha256": "b"}'], ["source sha256: 'a' -> 'b'"]),
        ("train", [3.5], [], ["parameter: 3.5 -> (absent)"]),
    ],
)
def test_parameters_are_compared_in_words(rule: str, before: list[Any], now: list[Any], words: list[str]) -> None:
    assert values_changed(rule, before, now) == words


def test_notebooks_and_modules_that_came_or_went_are_named() -> None:
    said = code_difference({"notebooks/s.ipynb": "1", "ontogeny.a": "1"}, {"notebooks/s.ipynb": "2", "ontogeny.b": "1"})
    assert said == [
        "the notebook changed (notebooks/s.ipynb)",
        "code imported now: ontogeny.b",
        "code no longer imported: ontogeny.a",
    ]


def test_long_values_are_cut() -> None:
    assert len(changes.short("x" * 500)) == changes.LONGEST


def test_one_seed_more_is_told_as_seeds(here: Path) -> None:
    data, runs = "results/smoke/s/data", "results/smoke/s/runs"
    remember(here, "results/smoke/s/probe", input=[data, f"{runs}/tree-s0-2"])
    new = job("train", f"Missing output files: {runs}/tree-s0-3", run="tree-s0-3")
    reason = (
        f"Input files updated by another job: {runs}/tree-s0-3; Set of input files has changed since last execution"
    )
    probe = job("probe", reason, input=[data, f"{runs}/tree-s0-3"])
    plan = Plan.of([new, probe])
    assert plan.explain(new) == ["seeds of tree: 0–2 -> 0–3"]
    assert plan.explain(probe) == ["reads other files than before (tree-s0-3 new, tree-s0-2 gone)"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Missing output files: results/smoke/s/claims", "output is missing (results/smoke/s/claims)"),
        ("Incomplete output files: results/smoke/s/claims", "was interrupted"),
        ("Updated input files: x.j2", "an input is newer (x.j2)"),
        ("Code has changed since last execution", "its script or notebook is newer than its results"),
        ("Software environment definition has changed since last execution", "its environment (envs/) changed"),
        ("Forced execution", "was asked for"),
        ("Something new", "Something new"),
    ],
)
def test_other_reasons_are_put_into_words(here: Path, reason: str, words: str) -> None:
    remember(here, "results/smoke/s/claims", input=[])
    assert Plan([]).explain(job("claims", reason)) == [words]


def test_jobs_with_the_same_reason_share_a_line(here: Path) -> None:
    follows = "Input files updated by another job: x"
    jobs = [job("claims", follows), job("probe", follows)]
    jobs += [job("train", f"{PARAMS}before: {OLD!r} now: {NEW!r} ", run=f"r{n}-s0-1") for n in range(6)]
    assert report(jobs).splitlines() == [
        "8 jobs would run.",
        "",
        "s",
        "  train (r0-s0-1, r1-s0-1, r2-s0-1, r3-s0-1, 2 more): code changed in ontogeny.a",
        "  probe, claims: made again, because of the above",
    ]
    assert "Nothing to do" in report([])


SNAKEFILE = """
configfile: "config.yaml"
rule train:
    output: "results/smoke/{study}/runs/{run}"
    log: "results/smoke/{study}/logs/train/{run}.log"
    benchmark: "results/smoke/{study}/benchmarks/train/{run}.tsv"
    params: settings=config["settings"], seeds=config["seeds"], code=config["code"]
    shell: "touch {output}"
rule probe:
    input: rules.train.output
    output: "results/smoke/{study}/probes/{run}"
    log: "results/smoke/{study}/logs/probe/{run}.log"
    shell: "touch {output}"
"""


def test_snakemakes_own_reasons_are_understood(here: Path) -> None:
    (here / "Snakefile").write_text(SNAKEFILE)
    target = "results/smoke/s/probes/r"

    def configure(**values: Any) -> None:
        content = {"settings": {"lr": 0.1, "text": "before: a; now: b"}, "seeds": [0, 1], "code": OLD, **values}
        (here / "config.yaml").write_text(json.dumps(content))

    configure()
    assert "train (r), probe (r): never run yet" in report(planned_jobs([target]))
    words = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "--", target]
    subprocess.run(words, check=True, capture_output=True)
    assert planned_jobs([target]) == []
    configure(settings={"lr": 0.2, "text": "x, now: y"}, seeds=[0, 1, 2], code=NEW)
    said = report(planned_jobs([target]))
    for line in ("setting lr: 0.1 -> 0.2", "seeds: 0–1 -> 0–2", "code changed in ontogeny.a"):
        assert line in said
    assert "probe (r): made again, because of the above" in said
    assert "2 jobs would run: about " in said
    (here / "Snakefile").write_text('raise WorkflowError("config.yaml: scale: is wrong.")')
    with pytest.raises(OntogenyError, match="scale: is wrong"):
        planned_jobs([target])
