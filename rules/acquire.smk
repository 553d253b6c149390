# Data sets and pretrained models, once for all studies. The content lies in the cache that checkouts share
# (ONTOGENY_CACHE); the output is a receipt that names what is there.


rule acquire:
    output:
        receipt="results/sources/{source}.json",
    log:
        "results/sources/logs/{source}.log",
    benchmark:
        "results/sources/benchmarks/{source}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
        gpu=0,
    params:
        source=lambda wildcards: SOURCES[wildcards.source].model_dump_json(),
    message:
        "{wildcards.source}: acquire"
    script:
        "../workflow/scripts/acquire.py"
