# Tables and claims -> figures, drawn by the study's notebook; the executed notebook is kept, stripped of times.


rule figures:
    input:
        tables=rules.probe.output.tables,
        claims=rules.claims.output.claims,
    output:
        figures=report(
            directory("results/{scale}/{study}/figures"),
            patterns=["{figure}.svg"],
            caption="../workflow/report/figure.rst",
            category="{study}",
            labels={"result": "{figure}", "scale": "{scale}"},
        ),
    log:
        notebook="results/{scale}/{study}/logs/figures.ipynb",
    benchmark:
        "results/{scale}/{study}/benchmarks/figures.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=grows("figures", "mem_mb", JOB_MB),
        runtime=grows("figures", "runtime"),
        gpu=0,
    params:
        folder=lambda wildcards, output: str(Path(output.figures).parent),
        captions=spec("figures"),
        code=code("figures"),
    message:
        "{wildcards.study}: figures ({wildcards.scale})"
    notebook:
        "../notebooks/{wildcards.study}.ipynb"


rule export:
    input:
        figures=rules.figures.output.figures,
        executed=rules.figures.log.notebook,
    output:
        ipynb="results/{scale}/{study}/notebook.ipynb",
        html=report(
            "results/{scale}/{study}/notebook.html",
            caption="../workflow/report/notebook.rst",
            category="{study}",
            labels={"result": "notebook", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/{study}/logs/export.log",
    benchmark:
        "results/{scale}/{study}/benchmarks/export.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
        attempt=ATTEMPT,
        gpu=0,
    params:
        figures=lambda wildcards: sorted(load_study(wildcards.study).figures),
        code=code("export"),
    message:
        "{wildcards.study}: export the notebook ({wildcards.scale})"
    script:
        "../workflow/scripts/export.py"
