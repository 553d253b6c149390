"""One cluster for all tests, the trials of all faults, and the table of what became of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.faults import Trials
from tests.cluster.slurm import Cluster, ClusterError, Layout, run
from tests.cluster.trial import TARGET, Trial


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with accounting; taken down when the tests are over."""
    cluster = Cluster(Layout(accounting=1))
    try:
        cluster.start()
    except ClusterError as error:
        pytest.fail(f"no SLURM cluster on this machine: {error}")
    yield cluster
    for number in run("squeue", "-h", "-o", "%i").stdout.split():
        run("scancel", number)
    cluster.purge()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, str]]:
    """The tables of an undisturbed local run with a number of seeds."""
    known: dict[int, dict[str, str]] = {}
    lock = threading.Lock()

    def tables(seeds: int) -> dict[str, str]:
        with lock:
            if seeds not in known:
                trial = Trial(tmp_path_factory.mktemp(f"local{seeds}"), seeds, TRIAL_PAUSE="0")
                done = trial.module("snakemake", TARGET, "--cores", "2", "--config", "scale=smoke")
                assert done.returncode == 0, done.stdout[-3000:]
                known[seeds] = trial.tables()
            return known[seeds]

    return tables


@pytest.fixture(scope="session")
def trials(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Trials]:
    """The trials of the faults whose tests were asked for; they begin at once, while other tests go on."""
    chosen = {item.callspec.params["fault"] for item in request.session.items if hasattr(item, "callspec")}
    trials = Trials(cluster, chosen, tmp_path_factory.mktemp)
    yield trials
    trials.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of faults and outcomes."""
    passed = terminalreporter.stats.get("passed", [])
    rows = [value for report in passed for name, value in report.user_properties if name == "fault"]
    if rows:
        terminalreporter.write_line(
            "\n| fault | goes on | time | steps taken again | |\n| --- | --- | --- | --- | --- |"
        )
        for row in rows:
            terminalreporter.write_line(f"| {' | '.join(map(str, row))} |")
