"""Decide the claims of a study."""

from ontogeny.jobs import job

with job(snakemake):
    from pathlib import Path

    from ontogeny.stages.decide import decide

    decide(
        study=snakemake.wildcards.study,
        scale=snakemake.wildcards.scale,
        tables=Path(snakemake.input.tables),
        out=Path(snakemake.output.claims),
    )
