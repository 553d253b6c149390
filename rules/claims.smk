# Tidy tables -> a verdict for each claim, held against the criteria of study.yaml.


rule claims:
    input:
        tables=rules.probe.output.tables,
    output:
        claims=report(
            "results/{scale}/{study}/claims.json",
            caption="../workflow/report/claims.rst",
            category="{study}",
            labels={"result": "claims", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/{study}/logs/claims.log",
    benchmark:
        "results/{scale}/{study}/benchmarks/claims.tsv"
    conda:
        "../envs/claims.yaml"
    threads: 1
    resources:
        mem_mb=grows("claims", "mem_mb", JOB_MB),
        runtime=grows("claims", "runtime"),
        attempt=ATTEMPT,
        gpu=0,
    params:
        claims=spec("claims"),
        deviations=spec("deviations"),
        code=code("claims"),
    message:
        "{wildcards.study}: claims ({wildcards.scale})"
    script:
        "../workflow/scripts/claims.py"
