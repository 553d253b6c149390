"""Reduce the finished runs of a study to its tidy tables."""

from ontogeny.jobs import job

with job(snakemake):
    from pathlib import Path

    from ontogeny.stages.probe import ProbeConfig, probe

    probe(
        config=ProbeConfig(snakemake.wildcards.study, snakemake.wildcards.scale, snakemake.params.device),
        threads=snakemake.params.threads,
        columns=snakemake.params.columns,
        data=Path(snakemake.input.data),
        runs=[Path(run) for run in snakemake.input.runs],
        out=Path(snakemake.output.tables),
    )
