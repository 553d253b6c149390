"""Reduce the finished runs of a study to its tidy tables."""

from ontogeny.gpu_job import gpus_of
from ontogeny.jobs import job

with job(snakemake), gpus_of(snakemake) as device:
    from pathlib import Path

    from ontogeny.stages.probe import ProbeConfig, probe

    probe(
        config=ProbeConfig(snakemake.wildcards.study, snakemake.wildcards.scale, device),
        threads=snakemake.params.threads,
        columns=snakemake.params.columns,
        data=Path(snakemake.input.data),
        runs=[Path(run) for run in snakemake.input.runs],
        out=Path(snakemake.output.tables),
    )
