"""Bring one source into the shared cache, verified, and write its receipt."""

from ontogeny.jobs import job, log

with job(snakemake):
    from pathlib import Path

    from ontogeny.sources import acquire, cache_root, load_registry

    source = load_registry()[snakemake.wildcards.source]
    acquire(source, cache_root(), log.info).write(Path(snakemake.output.receipt))
