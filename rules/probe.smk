# Finished runs -> tidy tables: one observation a row.


rule probe:
    input:
        data=rules.prepare.output.data,
        runs=lambda wildcards: runs_of(wildcards.study, wildcards.scale),
    output:
        tables=directory("results/{scale}/{study}/probes"),
    log:
        "results/{scale}/{study}/logs/probe.log",
    benchmark:
        "results/{scale}/{study}/benchmarks/probe.tsv"
    conda:
        with_torch("probe")
    threads: needs("probe", "threads")
    resources:
        mem_mb=grows("probe", "mem_mb", JOB_MB),
        runtime=grows("probe", "runtime"),
        attempt=ATTEMPT,
        gpu=gpu("probe", "devices"),
        gpu_percent=gpu("probe", "percent"),
    params:
        columns=lambda wildcards: columns_of(wildcards.study),
        device=CONFIG.device,
        threads=needs("probe", "threads"),
        code=code("probe"),
    message:
        "{wildcards.study}: probe ({wildcards.scale})"
    script:
        "../workflow/scripts/probe.py"
