# Shared sources, and the bases that the study builds on -> the study's data.


rule prepare:
    input:
        receipts=lambda wildcards: receipts_of(wildcards.study, wildcards.scale),
        base_data=lambda wildcards: base_data_of(wildcards.study, wildcards.scale),
        base_runs=lambda wildcards: base_runs_of(wildcards.study, wildcards.scale),
    output:
        data=directory("results/{scale}/{study}/data"),
    log:
        "results/{scale}/{study}/logs/prepare.log",
    benchmark:
        "results/{scale}/{study}/benchmarks/prepare.tsv"
    conda:
        with_torch("prepare")
    threads: needs("prepare", "threads")
    resources:
        mem_mb=grows("prepare", "mem_mb", JOB_MB),
        runtime=grows("prepare", "runtime"),
        attempt=ATTEMPT,
        gpu=gpu("prepare", "devices"),
        gpu_percent=gpu("prepare", "percent"),
    params:
        settings=lambda wildcards: planned(wildcards.study, wildcards.scale).data,
        code=code("prepare"),
    message:
        "{wildcards.study}: prepare ({wildcards.scale})"
    script:
        "../workflow/scripts/prepare.py"
