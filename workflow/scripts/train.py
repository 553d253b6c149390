"""Train one run."""

from ontogeny.gpu_job import gpus_of
from ontogeny.jobs import job

with job(snakemake), gpus_of(snakemake) as device:
    from pathlib import Path

    from ontogeny.stages.train import train

    out = Path(snakemake.output.run)
    train(
        config={
            "study": snakemake.wildcards.study,
            "scale": snakemake.wildcards.scale,
            "run": snakemake.wildcards.run,
            "row": snakemake.params.row,
            "settings": snakemake.params.settings,
            "seeds": snakemake.params.seeds,
            "device": device,
        },
        threads=snakemake.params.threads,
        data=Path(snakemake.input.data),
        out=out,
        state=out.parents[1] / "state" / out.name,
        code=snakemake.params.code,
    )
