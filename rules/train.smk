# Data -> history and checkpoints. A run is one row of the study's sweep x one block of seeds, trained as one batched
# program. Its resumable state lies beside the declared output, because Snakemake deletes the output of a failed job.


rule train:
    input:
        data=rules.prepare.output.data,
    output:
        run=directory("results/{scale}/{study}/runs/{run}"),
    log:
        "results/{scale}/{study}/logs/train/{run}.log",
    benchmark:
        "results/{scale}/{study}/benchmarks/train/{run}.tsv"
    conda:
        with_torch("train")
    threads: needs("train", "threads")
    resources:
        mem_mb=grows("train", "mem_mb", JOB_MB),
        runtime=grows("train", "runtime"),
        attempt=ATTEMPT,
        gpu=gpu("train", "devices"),
        gpu_percent=gpu("train", "percent"),
    params:
        row=lambda wildcards: run_of(wildcards).row,
        settings=lambda wildcards: run_of(wildcards).settings,
        seeds=lambda wildcards: list(run_of(wildcards).seeds),
        device=CONFIG.device,
        threads=needs("train", "threads"),
        code=code("train"),
    message:
        "{wildcards.study}: train {wildcards.run} ({wildcards.scale})"
    script:
        "../workflow/scripts/train.py"
