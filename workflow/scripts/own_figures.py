"""Draw what was found in a model of the user's."""

from ontogeny.jobs import job

with job(snakemake):
    from pathlib import Path

    from ontogeny.stages.own_figures import draw

    draw(
        study=snakemake.params.study,
        examination=Path(snakemake.input.examination),
        out=Path(snakemake.output.figures),
    )
