# All studies -> the atlas.
REPORT_FILES = (
    "index.html",
    "methods.html",
    "claims.csv",
    "claims.tex",
    "provenance.json",
)


rule report:
    input:
        claims=expand(rules.claims.output.claims, study=CONFIG.selected(), allow_missing=True),
        figures=expand(rules.figures.output.figures, study=CONFIG.selected(), allow_missing=True),
        notebooks=expand(rules.export.output, study=CONFIG.selected(), allow_missing=True),
        tables=expand(rules.probe.output.tables, study=CONFIG.selected(), allow_missing=True),
        runs=lambda wildcards: [run for study in CONFIG.selected() for run in runs_of(study, wildcards.scale)],
        receipts=lambda wildcards: sorted(
            {file for study in CONFIG.selected() for file in receipts_of(study, wildcards.scale)}
        ),
        own=expand([rules.own.output.examination, rules.own_figures.output.figures], own=CONFIG.own),
        templates=sorted(str(path) for path in (LIBRARY / "report").glob("*.j2")),
    output:
        report(
            expand("results/{{scale}}/report/{file}", file=REPORT_FILES),
            caption="../workflow/report/table.rst",
            category="atlas",
        ),
        directory(
            expand(
                "results/{{scale}}/report/{folder}",
                folder=["studies", "notebooks", "figures", "tables", "own"],
            )
        ),
    log:
        "results/{scale}/report/logs/report.log",
    benchmark:
        "results/{scale}/report/benchmarks/report.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=5,
        attempt=ATTEMPT,
        gpu=0,
    params:
        runs=lambda wildcards: {study: list(planned(study, wildcards.scale).runs) for study in CONFIG.selected()},
        own=list(CONFIG.own),
        needs=lambda wildcards: {
            study: {
                "sources": planned(study, wildcards.scale).sources,
                "bases": {
                    base: list(planned(base, wildcards.scale).runs) for base in planned(study, wildcards.scale).bases
                },
            }
            for study in CONFIG.selected()
        },
        specs=lambda wildcards: {
            study: load_study(study).model_dump_json(exclude={"resources"}) for study in CONFIG.selected()
        },
        code=code("report"),
    message:
        "atlas ({wildcards.scale})"
    script:
        "../workflow/scripts/report.py"
