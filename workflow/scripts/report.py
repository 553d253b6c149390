"""Build the atlas."""

from ontogeny.jobs import job

with job(snakemake):
    from pathlib import Path

    from ontogeny.report import build

    out = Path(snakemake.output[0]).parent
    build(
        results=out.parents[1],
        scale=snakemake.wildcards.scale,
        studies=list(snakemake.params.runs),
        runs=snakemake.params.runs,
        needs=snakemake.params.needs,
        own=snakemake.params.own,
        out=out,
        templates=Path(snakemake.input.templates[0]).parent,
    )
