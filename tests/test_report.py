"""The atlas, built from synthetic results."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ontogeny import claims, rooms, study
from ontogeny.errors import DamagedFile, OntogenyError
from ontogeny.files import MANIFEST, OutFolder, sha256, write_json, write_text
from ontogeny.gpu_monitor import GpuUse, write_use
from ontogeny.report import build, pages, tables, tex, wording
from ontogeny.statistics import Estimate
from ontogeny.study import Criterion, StudySpec, load_study

TEMPLATES = Path(__file__).parents[1] / "workflow" / "report"
PROVENANCE = {
    "code": {"ontogeny.run": "abcabcabc", "ontogeny.stages.train": "defdefdef"},
    "packages": {"numpy": "9.8.7", "torch": "6.5.4"},
    "machine": {"system": "Linux", "processor": "A processor", "cores": 2, "python": "3.11"},
    "device": "cpu",
    "threads": 1,
}


def spec_of(slug: str) -> dict[str, Any]:
    """A study.yaml with every kind of criterion, and text that wants escaping."""
    test = {"statement": "mean error of α₁ & β, <in> steps_of 10⁻³", "unit": "steps"}
    claim = {"source": "Fig. A, Eq. B", "paper_value": "about ½ (not seen)"}
    return {
        "slug": slug,
        "title": f"Study of {slug} & its 100% \\ #1 {{x}}",
        "paper": {"authors": "A. Author", "title": "On <things>", "year": 2014, "arxiv": "1312.6120", "code": None},
        "question": "Does it?",
        "sources": ["digits"],
        "data": {},
        "sweep": {"tree": {"items": 3}},
        "scales": {"smoke": {"seeds": 2, "seeds_per_run": 2}, "laptop": {"seeds": 20, "seeds_per_run": 20}},
        "resources": {},
        "tables": {"rates": {"description": "Rates.", "columns": {"seed": "seed", "rate": "rate [per step]"}}},
        "figures": {"modes": 'Modes "over" time; every line is <one> seed.'},
        "claims": {
            "c1": {
                **claim,
                "statement": "It decays.",
                "headline": True,
                "tests": {
                    "relative_error": {**test, "between": [-0.02, 0.15]},
                    "share": {**test, "report": True},
                },
            },
            "c2": {**claim, "statement": "It grows ≥ ever.", "tests": {"growth": {**test, "at_least": 0.95}}},
            "c3": {**claim, "statement": "Unclear.", "headline": True, "tests": {"gap": {**test, "above": 0}}},
            "c4": {
                **claim,
                "statement": "Too large.",
                "tests": {"size": {**test, "below": 1}},
                "out_of_scope": {"smoke": "needs more", "laptop": "needs a cluster"},
            },
        },
        "deviations": ["one", "two & more"],
        "null_world": "Nothing decays.",
        "worlds": {"control": {}, "ablated": {}},
    }


ESTIMATES = {
    "relative_error": Estimate(0.05231, 0.03, 0.0712, 20, "mean, t interval"),
    "share": Estimate(0.7, 0.5, 0.9, 20, "share, Clopper-Pearson"),
    "growth": Estimate(-0.5, -0.6, -0.4, 20, "deterministic"),
    "gap": Estimate(0.1, -np.inf, np.inf, 1, "mean, t interval"),
}


@dataclass
class World:
    """A tree of studies and a folder of results, both synthetic."""

    root: Path

    @property
    def results(self) -> Path:
        return self.root / "results"

    def add(self, slug: str, scale: str = "laptop", estimates: dict[str, Estimate] = ESTIMATES) -> Path:
        path = rooms.STUDIES / slug / "study.yaml"
        write_text(path, yaml.safe_dump(spec_of(slug), allow_unicode=True))
        forget()
        folder = self.results / scale / slug
        write_json(folder / "claims.json", decided(load_study(slug), scale, estimates))
        self._inputs(folder)
        receipt = {"name": "digits", "kind": "data", "version": "v-one", "licence": "MIT", "origin": "somewhere"}
        write_json(self.results / "sources" / "digits.json", {**receipt, "files": {}})
        return folder

    def _inputs(self, folder: Path) -> None:
        for name in ("notebook.html", "notebook.ipynb", "figures/modes.pdf", "figures/modes.svg", "figures/modes.png"):
            write_text(folder / name, f"<svg>{name}</svg>")
        for name in ("data", "probes"):
            out = OutFolder(folder / name)
            out.save_table("rates.parquet", pd.DataFrame({"seed": range(7), "rate": np.zeros(7)}))
            out.publish()
        for name, seeds in (("tree-s0-9", range(10)), ("tree-s10-19", range(10, 20))):
            out = OutFolder(folder / "runs" / name)
            out.save_json("config.json", {"row": "tree", "seeds": list(seeds), "settings": {"items": 3}})
            out.save_json("provenance.json", PROVENANCE)
            out.publish()
        write_text(folder / "benchmarks" / "prepare.tsv", "s\th:m:s\tmax_rss\n1.5\t0:00:01\t88.2\n")
        write_text(folder / "benchmarks" / "train" / "tree-s0-9.tsv", "s\th:m:s\tmax_rss\n130\t0:02:10\t2048\n")
        write_text(folder / "benchmarks" / "train" / "tree-s10-19.tsv", "s\th:m:s\tmax_rss\n50\t0:00:50\t-\n")

    def build(self, *slugs: str, scale: str = "laptop", out: str = "report", **more: Any) -> Path:
        path = self.results / scale / out
        build(self.results, scale, slugs, path, TEMPLATES, **more)
        return path


def decided(spec: StudySpec, scale: str, estimates: dict[str, Estimate]) -> dict[str, Any]:
    """The claims.json that these estimates give."""
    results = []
    for name, claim in spec.claims.items():
        if scale in claim.out_of_scope:
            results.append(claims._result(name, claim, claims.OUT_OF_SCOPE, claim.out_of_scope[scale], ()))
            continue
        tests = tuple(claims.judge(test, criterion, estimates[test]) for test, criterion in claim.tests.items())
        results.append(claims._result(name, claim, *claims._combine(tests), tests))
    return claims.to_json(spec, scale, results)


def forget() -> None:
    rooms.all_studies.cache_clear()
    rooms.all_bases.cache_clear()
    study.load_room.cache_clear()


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "STUDIES", tmp_path / "studies")
    forget()
    yield World(tmp_path)
    forget()


class Page(HTMLParser):
    """The visible text of a page, what it loads, and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.loads, self.links, self.ids, self._hidden = "", [], [], [], 0
        self.alts: list[str | None] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self._hidden += tag == "style"
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.alts.append(given.get("alt"))
        self.loads += [given[key] for key in ("src", "srcset", "data", "poster") if key in given]
        self.loads += [given["href"]] if "href" in given and tag != "a" else []

    def handle_endtag(self, tag):
        self._hidden -= tag == "style"
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        self.text += "" if self._hidden else data


def rows_of(report: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((report / "claims.csv").read_text())))


def test_csv_has_one_row_a_test(world):
    world.add("alpha_one")
    rows = rows_of(world.build("alpha_one"))
    wanted = "study claim test statement source paper_value estimate ci_low ci_high criterion verdict claim_verdict"
    assert {*wanted.split(), "detectable", "seeds", "scale", "headline", "unit", "method"} <= set(rows[0])
    found = [(row["test"], row["verdict"], row["claim_verdict"]) for row in rows]
    assert found == [
        ("relative_error", "holds", "holds"),
        ("share", "reported", "holds"),
        ("growth", "fails", "fails"),
        ("gap", "inconclusive", "inconclusive"),
        ("size", "out of scope", "out of scope"),
    ]
    assert (rows[0]["estimate"], rows[0]["ci_high"]) == ("0.05231", "0.0712")
    assert (rows[3]["ci_low"], rows[3]["ci_high"], rows[3]["detectable"]) == ("-inf", "inf", "inf")
    assert (rows[4]["estimate"], rows[4]["reason"]) == ("", "needs a cluster")
    assert np.isinf(pd.read_csv(world.results / "laptop/report/claims.csv")["ci_low"][3])


def test_pages_say_every_verdict_and_unbounded_intervals(world):
    world.add("alpha_one")
    report = world.build("alpha_one")
    for page in (Page(report / "index.html"), Page(report / "studies/alpha_one.html")):
        for symbol, word in (("✓", "holds"), ("✗", "fails"), ("?", "inconclusive"), ("–", "out of scope")):
            assert re.search(rf"{re.escape(symbol)}\s+{word}", page.text)
    text = Page(report / "studies/alpha_one.html").text
    assert "unbounded" in text
    assert "0.0523" in text and "[0.0300, 0.0712]" in text
    assert "in [−0.02, 0.15]" in text
    assert "[−0.600, −0.400]" in text
    assert "needs a cluster" in text
    assert "two & more" in text


def test_matrix_comes_first_and_leads_to_each_claim(world):
    world.add("alpha_one")
    world.add("beta_two")
    report = world.build("alpha_one", "beta_two")
    source = (report / "index.html").read_text()
    assert source.index("<table") == source.index('<table class="matrix')
    for slug in ("alpha_one", "beta_two"):
        for claim in ("c1", "c2", "c3", "c4"):
            assert f"studies/{slug}.html#{claim}" in Page(report / "index.html").links


def test_pages_are_self_contained_and_links_lead_somewhere(world):
    world.add("alpha_one")
    world.add("beta_two")
    report = world.build("alpha_one", "beta_two")
    for path in report.glob("**/*.html"):
        if path.parent.name == "notebooks":
            continue
        page = Page(path)
        assert all(load.startswith("data:") for load in page.loads)
        assert "@import" not in path.read_text() and "url(" not in path.read_text()
        assert "<script" not in path.read_text()
        assert len(page.ids) == len(set(page.ids))
        for link in page.links:
            if link.startswith("https://arxiv.org/abs/"):
                continue
            target, _, anchor = link.partition("#")
            file = path.parent / target if target else path
            assert file.is_file(), link
            assert not anchor or anchor in Page(file).ids, link


def test_figures_are_embedded_with_their_captions_as_alternative_text(world):
    folder = world.add("alpha_one")
    report = world.build("alpha_one")
    page = Page(report / "studies/alpha_one.html")
    assert page.alts == [load_study("alpha_one").figures["modes"]]
    assert page.loads[0].startswith("data:image/svg+xml;base64,")
    for kind in ("pdf", "svg", "png"):
        copy, original = report / f"figures/alpha_one/modes.{kind}", folder / f"figures/modes.{kind}"
        assert copy.read_bytes() == original.read_bytes()
    (folder / "figures/modes.svg").write_text(" " * (pages.LARGEST_SVG + 1))
    page = Page(world.build("alpha_one") / "studies/alpha_one.html")
    assert page.loads[0].startswith("data:image/png;base64,")


def test_costs_are_summed_and_a_missing_benchmark_is_a_dash(world):
    folder = world.add("alpha_one")
    text = " ".join(Page(world.build("alpha_one") / "studies/alpha_one.html").text.split())
    assert "prepare 1 1.50 s 88 MB" in text
    assert "train 2 3.00 min 2.0 GB" in text
    assert "probe – – –" in text
    shutil.rmtree(folder / "benchmarks")
    text = " ".join(Page(world.build("alpha_one") / "studies/alpha_one.html").text.split())
    assert "train – – –" in text


def test_gpu_costs_are_shown_where_a_gpu_was_used(world):
    folder = world.add("alpha_one")
    assert "GPU" not in Page(world.build("alpha_one") / "studies/alpha_one.html").text.split("Cost")[-1]
    write_use(folder / "benchmarks/train/tree-s0-9.gpu.tsv", GpuUse("H100", 1, 120, 4096, 80, 99))
    write_use(folder / "benchmarks/train/tree-s10-19.gpu.tsv", GpuUse("H100", 0.5, 240, None, 40, 90))
    text = " ".join(Page(world.build("alpha_one") / "studies/alpha_one.html").text.split())
    assert "GPU time GPU peak memory GPU load" in text
    assert "prepare 1 1.50 s 88 MB – – –" in text
    assert "train 2 3.00 min 2.0 GB 4.00 min 4.1 GB 60 %" in text


def test_only_the_costs_change_the_bytes(world):
    folder = world.add("alpha_one")
    world.add("beta_two")
    first = world.build("alpha_one", "beta_two", out="first")
    before = {path.relative_to(first): path.read_bytes() for path in first.glob("**/*") if path.is_file()}
    (folder / "benchmarks/prepare.tsv").write_text("s\th:m:s\tmax_rss\n9.9\t0:00:01\t99.9\n")
    second = world.build("alpha_one", "beta_two", out="second")
    after = {path.relative_to(second): path.read_bytes() for path in second.glob("**/*") if path.is_file()}
    assert before.keys() == after.keys()
    assert [str(name) for name in before if before[name] != after[name]] == ["studies/alpha_one.html"]


def test_provenance_names_runs_code_versions_and_sources(world):
    folder = world.add("alpha_one")
    record = json.loads((world.build("alpha_one") / "provenance.json").read_text())
    run = record["studies"]["alpha_one"]["runs"]["tree-s10-19"]
    assert run["seeds"] == list(range(10, 20))
    assert run["manifest"] == sha256(folder / "runs/tree-s10-19" / MANIFEST)
    assert {key: run[key] for key in PROVENANCE} == PROVENANCE
    assert record["studies"]["alpha_one"]["sources"] == ["digits"]
    assert record["sources"]["digits"]["version"] == "v-one"


def test_runs_that_the_plan_does_not_name_are_left_out(world):
    world.add("alpha_one")
    report = world.build("alpha_one", runs={"alpha_one": ["tree-s0-9"]})
    assert list(json.loads((report / "provenance.json").read_text())["studies"]["alpha_one"]["runs"]) == ["tree-s0-9"]
    assert "tree-s10-19" not in (report / "studies/alpha_one.html").read_text()


CUT = '{"level": 0.9, "deviations": [], "claims": [1]}'


@pytest.mark.parametrize("content", ["", "{", "[]", '{"level": 0.9}', CUT])
def test_damaged_claims_stop_with_a_message_and_leave_the_atlas_alone(world, content):
    folder = world.add("alpha_one")
    report = world.build("alpha_one")
    before = (report / "index.html").read_bytes()
    (folder / "claims.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"alpha_one/claims\.json: is missing or damaged .* run again"):
        world.build("alpha_one")
    assert (report / "index.html").read_bytes() == before
    assert sorted(path.name for path in report.parent.iterdir()) == ["alpha_one", "report"]


def test_altered_records_of_a_run_and_missing_figures_are_named(world):
    folder = world.add("alpha_one")
    (folder / "figures/modes.png").unlink()
    with pytest.raises(OntogenyError, match=r"modes\.png: is missing"):
        world.build("alpha_one")
    (folder / "runs/tree-s0-9/config.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"tree-s0-9: .*config\.json is not what the manifest says"):
        world.build("alpha_one")


def test_logs_beside_the_atlas_stay_and_studies_that_left_go(world):
    world.add("alpha_one")
    world.add("beta_two")
    write_text(world.results / "laptop/report/logs/report.log", "a line")
    world.build("alpha_one", "beta_two")
    report = world.build("beta_two")
    assert (report / "logs/report.log").read_text() == "a line"
    assert [path.name for path in (report / "studies").iterdir()] == ["beta_two.html"]
    assert [path.name for path in (report / "figures").iterdir()] == ["beta_two"]


def test_a_template_that_fails_leaves_nothing_behind(world, tmp_path):
    world.add("alpha_one")
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    (tmp_path / "templates/methods.html.j2").write_text("{{ no_such_name }}")
    with pytest.raises(Exception, match="no_such_name"):
        build(world.results, "laptop", ["alpha_one"], world.results / "laptop/report", tmp_path / "templates")
    assert [path.name for path in (world.results / "laptop").iterdir()] == ["alpha_one"]


# --- no number is typed by hand


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html.j2")), ids=lambda path: path.name)
def test_templates_hold_no_numbers(template):
    source = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", template.read_text(), flags=re.DOTALL)
    assert re.findall(r"\d+", re.sub(r"<[^>]*>", "", source)) == []


def test_numbers_on_the_pages_follow_the_data(world):
    world.add("alpha_one")
    one = world.build("alpha_one", out="one")
    moved = {name: Estimate(e.value + 0.01, e.low + 0.01, e.high + 0.01, 17, e.method) for name, e in ESTIMATES.items()}
    world.add("alpha_one", estimates=moved)
    two = world.build("alpha_one", out="two")
    before, after = (Page(path / "studies/alpha_one.html").text for path in (one, two))
    for number in ("0.0523", "0.0712", "0.700", "−0.500"):
        assert number in before and number not in after
    for number in ("0.0623", "0.0812", "0.710", "−0.490", "17"):
        assert number in after and number not in before


# --- LaTeX


def test_tex_escapes_everything():
    nasty = r"100% & #1 {x} \ ~ ^ _ $ < > | ` -- α ≥ −1 ² 10⁻⁵ é “q” x̂ 𝐀 Σ β₁"
    escaped = tex.escape(nasty)
    for char in "%&#_$":
        assert not re.search(rf"(?<!\\){re.escape(char)}", escaped.replace("}^{", "").replace(r"\ensuremath{_", ""))
    assert all(char.isascii() or char == "é" for char in escaped)
    assert r"\ensuremath{\alpha}" in escaped and r"10\ensuremath{^{-5}}" in escaped and r"\ensuremath{\geq}" in escaped
    assert escaped.count("{") - escaped.count(r"\{") == escaped.count("}") - escaped.count(r"\}")


def test_tex_has_a_macro_for_each_number_and_a_whole_table(world):
    world.add("alpha_one")
    text = (world.build("alpha_one") / "claims.tex").read_text()
    assert r"\ontoSet{alpha_one/c1/relative_error}{estimate}{0.0523}" in text
    assert r"\ontoSet{alpha_one/c3/gap}{interval}{unbounded}" in text
    assert r"\ontoSet{alpha_one/c4}{verdict}{out of scope}" in text
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
    body = text[text.index(r"\endfoot") : text.index(r"\end{longtable}")].splitlines()[1:]
    assert all(line.rstrip().endswith((r"\\", r"\\*")) for line in body if line.strip())
    unescaped = re.sub(r"\\[\\{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_tex_compiles_and_finds_its_numbers(world, tmp_path):
    world.add("alpha_one")
    shutil.copy(world.build("alpha_one") / "claims.tex", tmp_path)
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,longtable}\input{claims}\begin{document}"
        r"\message{FOUND:\ontoResult{alpha_one}{c1}{relative_error}:\ontoVerdict{alpha_one}{c3}:}"
        r"Text \ontoResult{alpha_one}{c2}{growth}, $x=\ontoEstimate{alpha_one}{c2}{growth}$. \ontoClaims \input{claims}"
        r"\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert log.returncode == 0, log.stdout[-3000:]
    assert "FOUND:0.0523 [0.0300, 0.0712]:inconclusive:" in log.stdout.replace("\n", "")
    assert (tmp_path / "paper.pdf").exists()


# --- words and drawings


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.02, "−0.0200"),
        (1, "1.00"),
        (12345.678, "12300"),
        (0.00001234, "1.23 × 10⁻⁵"),
        (-4.2e7, "−4.20 × 10⁷"),
        (999.96, "1000"),
        (None, "–"),
    ],
)
def test_numbers_read_well(value, text):
    assert wording.number(value).replace("\u00a0", " ") == text


def test_intervals_show_their_width_and_their_missing_ends():
    criterion = Criterion(statement="s", at_least=0.9)
    narrow = claims.judge("t", criterion, Estimate(0.99987, 0.99981, 0.99993, 5, "m"))
    assert wording.estimate(narrow) == "0.99987"
    assert wording.confidence(narrow) == "[0.99981, 0.99993]"
    assert wording.interval(None, 3.0) == "[unbounded, 3.00]"
    assert wording.criterion("in [-0.02, 1e-05]").replace("\u00a0", " ") == "in [−0.02, 1 × 10⁻⁵]"
    assert wording.criterion("≥ 0.95") == "≥ 0.95"
    assert wording.ranges([3, 0, 1, 2, 7]) == "0–3, 7"


def test_strips_place_intervals_and_criteria_on_one_line():
    between = Criterion(statement="s", between=(0.0, 1.0))
    line = pages.strip(claims.judge("t", between, Estimate(0.5, 0.25, 0.75, 5, "m")), between)
    assert line.met is not None
    assert 0 < line.met[0] < line.low < line.estimate < line.high < line.met[1] < 100
    assert line.estimate == 50
    above = Criterion(statement="s", above=0.0)
    line = pages.strip(claims.judge("t", above, Estimate(0.0, -np.inf, np.inf, 1, "m")), above)
    assert (line.low, line.high, line.open_low, line.open_high) == (0, 100, True, True)
    assert line.met == (50, 100)


def test_chance_counts_random_tests_only(world):
    world.add("alpha_one")
    from ontogeny.report.collect import collect

    found = collect(world.results, "laptop", ["alpha_one"])
    miss = 1 - found[0].level
    assert miss == pytest.approx(0.05 / 4)
    assert pages.expected_errors(found) == pytest.approx({"holds": 2 * miss, "fails": 2 * miss})
    assert pages.counts(found[0].claims) == {"holds": 1, "fails": 1, "inconclusive": 1, "out of scope": 1}
    assert tables.csv_text(found).count("\n") == 6


def test_a_model_of_the_users_stands_beside_the_study_and_is_no_result(world):
    world.add("alpha_one")
    criterion = load_study("alpha_one").claims["c1"].tests
    test = next(iter(criterion))
    found = OutFolder(world.results / "own" / "mine" / "examination")
    found.save_table("rates.parquet", pd.DataFrame({"rate": [1.0]}))
    findings = {"study": "alpha_one", "model": {"modulus": 23}, "files": {"net.safetensors": "ab" * 32}}
    findings |= {"name": "mine", "measured": {"c1": {test: 0.8472}}, "facts": [["phase", "coexistence"]]}
    found.save_json("findings.json", findings)
    found.publish()
    drawn = OutFolder(world.results / "own" / "mine" / "figures")
    for kind in ("pdf", "svg", "png"):
        write_text(drawn.work / f"neurons.{kind}", f"<svg>{kind}</svg>")
    drawn.save_json("captions.json", {"neurons": "Ratios of the neurons."})
    drawn.publish()
    path = world.build("alpha_one", own=["mine"])
    page = Page(path / "own" / "mine.html")
    for words in ("a model of yours", "0.847", "coexistence", "net.safetensors", "modulus", "no verdict"):
        assert words in page.text
    assert "../studies/alpha_one.html" in page.links and "own/mine.html" in Page(path / "index.html").links
    assert "0.847" not in (path / "claims.csv").read_text()
    assert (path / "figures/own/mine/neurons.svg").exists() and (path / "tables/own/mine/rates.parquet").exists()
    (world.results / "own/mine/examination/findings.json").write_text("{")
    with pytest.raises(DamagedFile, match="own/mine/examination"):
        world.build("alpha_one", own=["mine"])
