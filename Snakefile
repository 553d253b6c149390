# Ontogeny: how neural networks learn, paper by paper.
#
#   sources -> prepare -> train -> probe -> claims -> figures -> report
#
# Data flow one way. The rules know no study by name: what there is to do follows from config.yaml and from the
# study.yaml of each study (workflow/ontogeny/studies/).
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")


# The working folder's own configuration comes first; a run from elsewhere takes the one beside this file.
HERE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
CANDIDATES = [Path("config.yaml"), Path("config/config.yaml"), HERE / "config.yaml"]


configfile: next(filter(Path.exists, CANDIDATES), CANDIDATES[0])


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/acquire.smk"
include: "rules/prepare.smk"
include: "rules/train.smk"
include: "rules/probe.smk"
include: "rules/claims.smk"
include: "rules/figures.smk"
include: "rules/own.smk"
include: "rules/report.smk"


# Beside targets: sources are fetched where the controller runs, because compute nodes seldom reach the network.
localrules:
    all,
    smoke,
    acquire,


rule all:
    default_target: True
    input:
        f"results/{CONFIG.scale}/report/index.html",


# Every study of the configuration at smoke scale, whatever scale is configured: does the plumbing hold?
rule smoke:
    input:
        "results/smoke/report/index.html",
