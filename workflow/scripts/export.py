"""Keep the executed notebook: stripped of times, as ipynb and as html."""

from ontogeny.jobs import job

with job(snakemake):
    from pathlib import Path

    from ontogeny.stages.export import export

    export(
        executed=Path(snakemake.input.executed),
        figures=Path(snakemake.input.figures),
        declared=snakemake.params.figures,
        ipynb=Path(snakemake.output.ipynb),
        html=Path(snakemake.output.html),
    )
