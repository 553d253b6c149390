"""How well the profile keeps a cluster busy, measured with jobs that wait rather than compute. A benchmark, not a test.

    python -m tests.cluster.efficiency [jobs a slot] [seconds a job]

For 1, 2 and 4 virtual nodes of two slots each: as many jobs a slot as asked for (25: 200 jobs on the largest),
submitted through the profile. Says which share of the slots' time the jobs' own waiting filled, how that compares
with one node, and the CPU time of the controller per job.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.slurm import Cluster, Layout
from tests.workflow.conftest import ROOT

SLOTS = 2  # of each node
WORKFLOW = """
rule all:
    input: expand("done/{i}", i=range(JOBS))
rule wait:
    output: touch("done/{i}")
    resources: mem_mb=600, runtime=5
    shell: "sleep SECONDS"
"""


def measure(nodes: int, jobs_per_slot: int, seconds: float) -> tuple[float, float]:
    """Wall seconds of the run, and CPU seconds of its controller."""
    cluster = Cluster(Layout(cpu_nodes=nodes, spare_nodes=0, gpu_nodes=0, cpus=SLOTS))
    cluster.start()
    jobs = nodes * SLOTS * jobs_per_slot
    with tempfile.TemporaryDirectory() as folder:
        text = WORKFLOW.replace("JOBS", str(jobs)).replace("SECONDS", str(seconds))
        (Path(folder) / "Snakefile").write_text(text)
        profile = ROOT / "workflow/profiles/slurm"
        command = [sys.executable, "-m", "snakemake", "--profile", str(profile), "--directory", folder]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cluster.purge()
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str]) -> None:
    """The command line."""
    jobs_per_slot, seconds = int((arguments or ["25"])[0]), float((arguments[1:] or ["20"])[0])
    print("| nodes | jobs | wall time | slots filled | against one node | controller, CPU per job |")
    print("| --- | --- | --- | --- | --- | --- |")
    alone = 0.0
    for nodes in (1, 2, 4):
        wall, controller = measure(nodes, jobs_per_slot, seconds)
        filled, jobs = jobs_per_slot * seconds / wall, nodes * SLOTS * jobs_per_slot
        alone = alone or filled
        row = f"| {nodes} | {jobs} | {wall:.0f} s | {filled:.0%} | {filled / alone:.0%} | {controller / jobs:.2f} s |"
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
