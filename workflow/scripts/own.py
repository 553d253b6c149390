"""Examine a model of the user's."""

from ontogeny.jobs import job

with job(snakemake):
    from pathlib import Path

    from ontogeny.own import examine

    examine(
        name=snakemake.wildcards.own,
        study=snakemake.params.study,
        model=snakemake.params.model,
        device="cpu",
        code=snakemake.params.code,
        out=Path(snakemake.output.examination),
    )
