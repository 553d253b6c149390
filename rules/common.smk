# Shared by all rules: the library, the checked configuration, and small functions of the wildcards.
import sys
from functools import cache

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

LIBRARY = HERE / "workflow"
if not LIBRARY.is_dir():
    raise WorkflowError(
        f"{HERE} is not a folder on this machine. Ontogeny brings a library of its own, so it has to be cloned or "
        "deployed (snakedeploy) before it is imported as a module."
    )

sys.path.insert(0, str(LIBRARY))

from ontogeny import cluster, fingerprint, gpus
from ontogeny.config import load_config
from ontogeny.errors import OntogenyError
from ontogeny.installation import offer
from ontogeny.rooms import all_bases, all_studies
from ontogeny.sources import load_registry
from ontogeny.study import SCALES, load_room, load_study, plan

offer(LIBRARY)


def checked(function, *arguments):
    """Call a function of the library; its errors end the workflow with their message alone."""
    try:
        return function(*arguments)
    except OntogenyError as error:
        raise WorkflowError(str(error)) from None


# Memory in MB that Snakemake's own processes take inside a job of a cluster, beside what the stage needs.
JOB_MB = 400

CONFIG_FILE = str(next(iter([*workflow.overwrite_configfiles[-1:], *workflow.configfiles[-1:], "config"])))
CONFIG = checked(load_config, config, CONFIG_FILE)
SOURCES = checked(load_registry)

# GPUs that jobs of this Snakemake may lease; None where a cluster hands them out (then --jobs counts nodes).
GPUS = None
if workflow.is_main_process and workflow.resource_settings.nodes is None:
    GPUS = checked(gpus.limit, CONFIG.device, workflow.global_resources.get("gpu").value)
    checked(gpus.require_enough, CONFIG.selected(), CONFIG.scale, CONFIG.device, GPUS)
    if GPUS:
        workflow.global_resources["gpu"] = GPUS
        workflow.global_resources["gpu_percent"] = GPUS * gpus.WHOLE
    elif CONFIG.device == "auto" and gpus.falls_back(CONFIG.selected(), CONFIG.scale):
        logger.warning(gpus.falls_back(CONFIG.selected(), CONFIG.scale))


# The lock of the working folder is ours now, so that no job in the queue belongs to a Snakemake that is alive.
onstart:
    checked(cluster.require_none_left, Path.cwd())


wildcard_constraints:
    scale="|".join(SCALES),
    study="|".join([*all_studies(), *all_bases()]) or "none",
    source="|".join(SOURCES),
    run=r"[a-z0-9_]+-s\d+-\d+",


@cache
def planned(study, scale):
    """The data settings, needs and runs of a study or base at a scale."""
    return checked(CONFIG.plan, study, scale, CONFIG_FILE)


def run_of(wildcards):
    """The plan of the run that the wildcards name."""
    runs = planned(wildcards.study, wildcards.scale).runs
    if wildcards.run not in runs:
        raise WorkflowError(f"{wildcards.study} has no run '{wildcards.run}' at scale {wildcards.scale}: {list(runs)}")
    return runs[wildcards.run]


def needs(stage, what):
    """A function of the wildcards: the threads, memory or time that a study asks for at a stage."""
    return lambda wildcards: getattr(load_room(wildcards.study).stage_resources(stage, wildcards.scale), what)


def ATTEMPT(wildcards, attempt):
    """The number of the attempt, 1 for the first, as a resource that the job can read."""
    return attempt


def grows(stage, what, extra=0):
    """A function of the wildcards and the attempt: mem_mb or runtime, half as much again at each further attempt."""
    asked = needs(stage, what)
    return lambda wildcards, attempt: round((asked(wildcards) + extra) * (1 + (attempt - 1) / 2))


@cache
def gpus_for(study, stage, scale):
    """What a job of a stage asks for: `devices` to itself, `percent` of devices."""
    checked(gpus.require_enough, [study], scale, CONFIG.device, GPUS)
    return gpus.demand(load_room(study).stage_resources(stage, scale), stage, CONFIG.device, GPUS)


def gpu(stage, what):
    """A function of the wildcards: the `devices` or the `percent` that a job of a stage asks for."""
    return lambda wildcards: getattr(gpus_for(wildcards.study, stage, wildcards.scale), what)


def with_torch(stage):
    """A function of the wildcards: the environment with the torch for the GPU, if a job of a stage asks for one, or not."""

    def environment(wildcards):
        asked = gpus_for(wildcards.study, stage, wildcards.scale)
        return f"../envs/train-{'cuda' if asked.devices or asked.percent else 'cpu'}.yaml"

    return environment


def code(stage):
    """A function of the wildcards: the fingerprint of the modules that a stage of a study imports."""
    return lambda wildcards: fingerprint.encode(fingerprint.stage_code(stage, getattr(wildcards, "study", None)))


def spec(field):
    """A function of the wildcards: a part of the study's study.yaml, as plain values."""
    return lambda wildcards: load_study(wildcards.study).model_dump(mode="json", include={field})[field]


def columns_of(study):
    """Table -> its columns, as study.yaml declares them; their descriptions do not rerun anything."""
    return {name: list(table.columns) for name, table in load_study(study).tables.items()}


def runs_of(study, scale):
    """The folders of all runs of a study or base at a scale."""
    return expand("results/{scale}/{study}/runs/{run}", study=study, scale=scale, run=planned(study, scale).runs)


def receipts_of(study, scale):
    """The receipts of the sources that a study or base needs."""
    return expand("results/sources/{source}.json", source=planned(study, scale).sources)


def base_data_of(study, scale):
    """The data folders of the bases that a study builds on."""
    return expand("results/{scale}/{base}/data", scale=scale, base=planned(study, scale).bases)


def base_runs_of(study, scale):
    """The folders of all runs of the bases that a study builds on."""
    return [run for base in planned(study, scale).bases for run in runs_of(base, scale)]


def study_of(wildcards):
    """The study whose probes an entry of `own` is put under."""
    return CONFIG.own[wildcards.own].study
