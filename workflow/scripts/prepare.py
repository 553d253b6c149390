"""Turn shared sources into a study's data."""

from ontogeny.gpu_job import gpus_of
from ontogeny.jobs import job

with job(snakemake), gpus_of(snakemake):
    from pathlib import Path

    from ontogeny.stages.prepare import prepare

    prepare(
        study=snakemake.wildcards.study,
        settings=snakemake.params.settings,
        receipts=[Path(receipt) for receipt in snakemake.input.receipts],
        out=Path(snakemake.output.data),
        base_data=[Path(folder) for folder in snakemake.input.base_data],
        base_runs=[Path(folder) for folder in snakemake.input.base_runs],
    )
