"""What happens to a run on a cluster when something breaks: it goes on, by itself or with one repeated command.

Every trial ends in tables that are the same bits as those of a local run, and no training takes a step again that had
been saved. The table of faults and outcomes is printed at the end; docs/slurm.md shows one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cluster.faults import (
    ALONE,
    EVERYWHERE,
    HEALED_BY_A_SECOND_COMMAND,
    KILLS,
    SAVED_LATE,
    SEEDS,
    SUDDEN,
    Fault,
    Trials,
    fifty_kills,
)
from tests.cluster.trial import STEPS

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("fault", [*ALONE, *EVERYWHERE], ids=lambda fault: fault.__name__)
def test_fault(
    fault: Fault,
    trials: Trials,
    local: Callable[[int], dict[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    outcome = trials.outcome(fault)
    trial, seeds = outcome.trial, SEEDS.get(fault, 4)
    assert outcome.commands[-1] == 0, trial.said()[-4000:]
    assert len(outcome.commands) == 1 + (fault in HEALED_BY_A_SECOND_COMMAND), outcome.commands
    assert trial.tables() == local(seeds)
    assert len(trial.steps()) == seeds // 2 * STEPS
    kills = KILLS if fault is fifty_kills else 2 * (fault in SUDDEN)
    assert trial.repeated() <= kills * SAVED_LATE, f"{trial.repeated()} steps were taken again"
    assert not trial.jobs()
    healed = "one repeated command" if len(outcome.commands) > 1 else "by itself"
    if fault is fifty_kills:
        healed = "by itself, or one repeated command after each kill of a controller"
    record_property("fault", (fault.__doc__, healed, f"{outcome.seconds:.0f} s", trial.repeated(), outcome.note))
