# A model of the user's (`own` in the configuration) -> what a study's probes find in it, and its figures.
wildcard_constraints:
    own="|".join(CONFIG.own) or "none",


rule own:
    input:
        files=lambda wildcards: CONFIG.own_model(wildcards.own, CONFIG_FILE).files(),
    output:
        examination=directory("results/own/{own}/examination"),
    log:
        "results/own/{own}/logs/own.log",
    benchmark:
        "results/own/{own}/benchmarks/own.tsv"
    conda:
        "../envs/train-cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
        attempt=ATTEMPT,
        gpu=0,
    params:
        study=study_of,
        model=lambda wildcards: CONFIG.own[wildcards.own].model,
        code=lambda wildcards: fingerprint.encode(fingerprint.stage_code("own", study_of(wildcards))),
    message:
        "{wildcards.own}: examine a model of yours"
    script:
        "../workflow/scripts/own.py"


rule own_figures:
    input:
        examination=rules.own.output.examination,
    output:
        figures=directory("results/own/{own}/figures"),
    log:
        "results/own/{own}/logs/own_figures.log",
    benchmark:
        "results/own/{own}/benchmarks/own_figures.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
        attempt=ATTEMPT,
        gpu=0,
    params:
        study=study_of,
        code=lambda wildcards: fingerprint.encode(fingerprint.stage_code("own_figures", study_of(wildcards))),
    message:
        "{wildcards.own}: figures of a model of yours"
    script:
        "../workflow/scripts/own_figures.py"
