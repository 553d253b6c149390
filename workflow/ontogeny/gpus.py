"""GPUs of this machine, and what a job asks of them. Nothing here imports torch.

`resources.<stage>.gpu` of a study.yaml and `device` of config.yaml decide together (docs/gpus.md).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ontogeny.errors import ConfigError, OntogenyError
from ontogeny.leases import WHOLE
from ontogeny.rooms import study_file
from ontogeny.study import GPU_STAGES, Resources, load_room

FORCED = ("train", "probe")  # those that `device: cuda` puts on a GPU even if their study asks for none
DRIVER = Path("/proc/driver/nvidia/gpus")
SECONDS = 60  # that nvidia-smi may take; a driver without persistence mode needs several


@dataclass(frozen=True)
class Demand:
    """What one job asks for: `devices` to itself, or `percent` of a device that it shares with others.

    `percent` is 100 for every whole device, and 0 where a scheduler hands the devices out.
    """

    devices: int = 0
    percent: int = 0


def demand(asked: Resources, stage: str, device: str, present: int | None) -> Demand:
    """What a job of `stage` asks for.

    device: auto, cpu or cuda, as config.yaml says. present: GPUs of this machine; None if a cluster runs the jobs.
    """
    share = max(asked.gpu, 1) if device == "cuda" and stage in FORCED and not asked.gpu else asked.gpu
    if device == "cpu" or (device == "auto" and present == 0):
        share = 0
    if present is None:
        return Demand(devices=math.ceil(share))  # a scheduler hands out whole devices
    return Demand(devices=int(share), percent=round(WHOLE * share))


def limit(device: str, allowed: int | None) -> int:
    """How many GPUs of this machine one Snakemake may lease. allowed: what --resources gpu=… says, None without it."""
    if device == "cpu":
        return 0
    here = len(devices_here())
    return here if allowed is None else min(allowed, here)


def falls_back(studies: Iterable[str], scale: str) -> str | None:
    """What to say when `device: auto` finds no GPU on this machine: which studies would have used one, if any."""
    asking = [
        study for study in studies if any(load_room(study).stage_resources(stage, scale).gpu for stage in GPU_STAGES)
    ]
    if not asking:
        return None
    return (
        f"There is no GPU to use here, so all runs on the CPU (device: auto). At scale {scale} these studies are "
        f"made for one, and may take days: {', '.join(asking)}. `make forecast SCALE={scale}` says more."
    )


def require_enough(studies: Iterable[str], scale: str, device: str, present: int | None) -> None:
    """Raise ConfigError naming study, stage and number if a job asks for more GPUs than this machine has.

    present: as in `demand`; a cluster's scheduler answers for itself.
    """
    if present is None:
        return
    for study in studies:
        for stage in GPU_STAGES:
            asked = demand(load_room(study).stage_resources(stage, scale), stage, device, present)
            if asked.percent > WHOLE * present:
                raise ConfigError(_too_many(study, stage, scale, max(asked.devices, 1), present))


def _too_many(study: str, stage: str, scale: str, asked: int, present: int) -> str:
    here = f"{present or 'none'} to use (of this machine, CUDA_VISIBLE_DEVICES and --resources gpu=…)"
    ways = ["run it on a machine or cluster that has them (--profile workflow/profiles/slurm)"]
    if present and asked > present:
        ways.append(f"lower resources.{stage}.gpu in {study_file(study)}")
    ways.append("take the CPU with `--config device=cpu`")
    return (
        f"{study}: stage {stage} at scale {scale} asks for {asked} GPU{'s' * (asked > 1)} a job, and there "
        f"{'is' if present == 1 else 'are'} {here}. Ways out: {'; '.join(ways)}."
    )


# ------------------------------------------------------------------------------------------------ what there is


def devices_here(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that processes of this environment may use, by the names that CUDA_VISIBLE_DEVICES understands.

    Devices that are cut in pieces (MIG) count by their pieces. Raises OntogenyError if nvidia-smi fails.
    """
    every = _by_nvidia_smi(environment.get("PATH")) or _by_driver(DRIVER)
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    return every if wanted is None else _restricted(every, wanted)


@cache
def _by_nvidia_smi(path: str | None) -> tuple[str, ...]:
    """The names that `nvidia-smi -L` lists; none if there is no nvidia-smi."""
    program = shutil.which("nvidia-smi", path=path)
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OntogenyError(f"{program} -L: {error}. Mend the driver, or say `device: cpu`.") from error
    return _listed(done.stdout) if done.returncode == 0 else ()


def _listed(text: str) -> tuple[str, ...]:
    """The devices in the output of `nvidia-smi -L`: one line a GPU, followed by one for each of its pieces."""
    gpus: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if found := re.search(r"\(UUID: (GPU-[^)]+)\)", line):
            gpus.append((found[1], []))
        elif (found := re.search(r"\(UUID: *(MIG-[^)]+)\)", line)) and gpus:
            gpus[-1][1].append(found[1])
    return tuple(name for whole, pieces in gpus for name in pieces or [whole])


def _by_driver(folder: Path) -> tuple[str, ...]:
    """The names that the kernel's driver lists: for containers that have the devices but not nvidia-smi."""
    texts = [path.read_text() for path in sorted(folder.glob("*/information"))]
    return tuple(found[1] for text in texts if (found := re.search(r"GPU UUID:\s*(GPU-\S+)", text)))


def _restricted(every: Sequence[str], wanted: str) -> tuple[str, ...]:
    """Those that CUDA_VISIBLE_DEVICES names, by number (as nvidia-smi counts) or by the beginning of their name.

    As in CUDA, the first entry that names nothing ends the list.
    """
    found: list[str] = []
    for word in (part.strip() for part in wanted.split(",")):
        matches = [name for name in every if word and name.startswith(word)]
        if word.isdigit() and int(word) < len(every):
            matches = [every[int(word)]]
        if len(matches) != 1 or matches[0] in found:
            break
        found += matches
    return tuple(found)
