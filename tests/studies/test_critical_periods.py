"""The mathematics of the critical-period study, against closed forms, autograd, brute force and plain networks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ontogeny.errors import ConfigError
from ontogeny.files import Folder, OutFolder, read_tensors
from ontogeny.run import Run, RunConfig
from ontogeny.settings import validate
from ontogeny.statistics import Interval
from ontogeny.studies.critical_periods import (
    claims,
    completion,
    factorisation,
    gating,
    pathways,
    probe,
    theory,
    transfer,
)
from ontogeny.studies.critical_periods.chain import descend, prefixes
from ontogeny.studies.critical_periods.data import hierarchy
from ontogeny.studies.critical_periods.pathways import Deficit, Networks
from ontogeny.studies.critical_periods.portrait import portrait_course
from ontogeny.studies.critical_periods.settings import Gating, OtherMatrix, Pathways, RunSettings, Transfer
from ontogeny.study import plan

STRENGTHS = np.sqrt([15, 7, 3, 3, 1, 1, 1, 1])
TARGETS = torch.zeros(15, 8)
TARGETS[:8] = torch.diag(torch.from_numpy(STRENGTHS).float())
WHOLE = torch.ones(2, 15, 8)
GATING = {
    "purpose": "window", "depth": 3, "rate": 0.01, "epochs": 60, "duration": 20, "onsets": [0, 20],
    "shown_onsets": [], "durations": [10], "controls": True, "lesioned_mode": None, "measure_every": 10,
}  # fmt: skip
TRANSFER = {
    "experiment": "transfer", "size": 8, "rank": 2, "observed": 30, "init_scale": 1e-3, "learning_rates": {2: 1.0},
    "final_epochs": 40, "measure_every": 10, "deficits": [{"kind": "matrix", "rank": 3}], "switches": [0, 10, 40],
}  # fmt: skip


def settings(row: str, scale: str = "smoke", **changes):
    """The settings of a row, with changes."""
    found = next(run.settings for run in plan("critical_periods", scale).runs.values() if run.row == row)
    return validate(RunSettings, {**found, **changes}, "test")


def networks(starts: list[list[torch.Tensor]], visible: torch.Tensor = WHOLE, rate: float = 0.01) -> Networks:
    weights = [torch.cat(layer) for layer in zip(*starts, strict=True)]
    return Networks(weights, TARGETS, visible, rate)


def aligned(seed: int, depth: int, width: int = 20) -> list[torch.Tensor]:
    return pathways.aligned_start(seed, depth, width, (15, 8), 0.01, 0.1)


# --- scalar equations


def test_two_equal_pathways_of_two_matrices_learn_logistically():
    s, start, time = 2.0, 0.1, 3.0
    course = theory.runge_kutta(np.full(2, start), s, 2, 0.0, np.ones((300, 2)), time / 300)
    total, first = theory.strength(course[-1], 2, 0.0).sum(), 2 * start**2
    grown = np.exp(2 * s * time)
    assert total == pytest.approx(s * first * grown / (s - first + first * grown), rel=1e-8)


@pytest.mark.parametrize("depth", [2, 3, 4, 7])
@pytest.mark.parametrize("s", [1.0, 3.0])
def test_final_shares_follow_from_the_lead(depth, s):
    gates = theory.open_gates(1500, np.array(50), np.array(75), (False, True))
    course = theory.runge_kutta(np.full(2, 0.4), s, depth, 0.0, gates, 0.04)
    k = theory.strength(course, depth, 0.0)
    lead = s ** ((depth - 2) / depth) * np.trapezoid((s - k.sum(-1))[50:126], dx=0.04)
    assert k[-1].sum() == pytest.approx(s, rel=1e-6)
    assert theory.share_of_lead(lead, depth) == pytest.approx(k[-1, 1] / s, abs=1e-3)


@pytest.mark.parametrize("depth", [2, 3, 4, 13])
def test_lead_and_share_are_inverse(depth):
    share = np.linspace(0.01, 0.5, 9)
    np.testing.assert_allclose(theory.share_of_lead(theory.lead_of_share(share, depth), depth), share, rtol=1e-9)


def test_a_chain_moves_its_strength_along_the_conserved_hyperbola():
    p, depth, c, h = np.array(0.7), 5, 1.0, 1e-6
    slope = (theory.strength(p + h, depth, c) - theory.strength(p - h, depth, c)) / (2 * h)
    q = np.sqrt(p**2 + c)  # D matrices, one of strength p and D - 1 of strength q: dK/dp = q^(D-1) + (D-1) p^2 q^(D-3)
    assert slope == pytest.approx(q ** (depth - 1) + (depth - 1) * p**2 * q ** (depth - 3), rel=1e-6)


def test_gates_close_within_the_deficit_only():
    gates = theory.open_gates(6, np.array([0, 2]), np.array([0, 3]), (False, True))
    np.testing.assert_array_equal(gates[:, 0], 1)
    np.testing.assert_array_equal(gates[:, 1, 1], [1, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(gates[:, 1, 0], 1)
    released = theory.open_gates(5, np.array([0]), np.array([3]), (False, True), first=1)
    assert (released[:, 0, 1] == 0).sum() == 2  # the released script counts from the step that leads to state 1


def test_the_released_portrait_step_by_step():
    depth, s, dt = 5, 10.0, 0.001
    row = settings("portrait")
    found = portrait_course(row, np.array([[0.01, -0.004]]), depth, [0])[:, 1, 0]
    px, py = 0.01, -0.004
    for t in range(1, row.steps):
        omega = s - px * (px**2 + 1) ** 2 - py * (py**2 + 1) ** 2
        moved = px + dt * np.sqrt(px**2 + 1) ** 4 * omega
        if not 0 <= t < row.duration:
            py = py + dt * np.sqrt(py**2 + 1) ** 4 * omega
        px = moved
    np.testing.assert_allclose(found[-1], [px * (px**2 + 1) ** 2, py * (py**2 + 1) ** 2], rtol=1e-12)


# --- chains and networks


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_descend_is_gradient_descent(depth):
    stream = torch.Generator().manual_seed(0)
    sizes = [5, *[6] * (depth - 1), 4]
    weights = [torch.randn(3, b, a, generator=stream, dtype=torch.float64) for a, b in pairwise(sizes)]
    targets = torch.randn(3, 4, 5, generator=stream, dtype=torch.float64)
    free = [matrix.clone().requires_grad_() for matrix in weights]
    (0.5 * (targets - prefixes(free)[-1]).square().sum()).backward()
    products = prefixes(weights)
    descend(weights, products, 0.1 * (targets - products[-1]))
    for matrix, reference in zip(weights, free, strict=True):
        torch.testing.assert_close(matrix, reference.detach() - 0.1 * reference.grad)


@pytest.mark.parametrize("lesioned", [None, 1])
def test_networks_train_as_plain_ones_in_the_original_coordinates(lesioned):
    """Against autograd with the released forward pass: B detached, A's row and column set to zero."""
    features = torch.from_numpy(hierarchy())
    left, _, right_t = torch.linalg.svd(features)
    start = pathways.random_start(3, 3, 16, (15, 8), 0.05)
    visible = WHOLE.clone()
    if lesioned is not None:
        visible[0, lesioned], visible[0, :, lesioned] = 0, 0
    trained = networks([[matrix.double() for matrix in start]], visible.double(), rate=0.05)
    trained.targets = left.T @ features @ right_t.T
    plain = [[matrix[path].double() for matrix in start] for path in range(2)]
    for path in plain:
        path[0], path[-1] = path[0] @ right_t, left @ path[-1]
    for epoch in range(12):
        gates = (1.0, float(epoch >= 6))
        trained.advance(1, gates)
        free = [[matrix.clone().requires_grad_() for matrix in path] for path in plain]
        maps = [path[2] @ path[1] @ path[0] for path in free]
        if lesioned is not None:
            k = left.T @ maps[0] @ right_t.T
            k = k * visible[0]
            maps[0] = left @ k @ right_t
        if not gates[1]:
            maps[1] = maps[1].detach()
        (0.5 * (maps[0] + maps[1] - features).square().sum()).backward()
        for path, leaves in zip(plain, free, strict=True):
            for index, leaf in enumerate(leaves):
                path[index] = leaf.detach() - (0.05 * leaf.grad if leaf.grad is not None else 0)
    for path in range(2):
        reference = left.T @ plain[path][2] @ plain[path][1] @ plain[path][0] @ right_t.T
        torch.testing.assert_close(trained.maps(prefixes(trained.weights))[0, path], reference, rtol=1e-8, atol=1e-10)


def test_the_task_has_the_strengths_of_the_paper():
    np.testing.assert_allclose(np.linalg.svd(hierarchy(), compute_uv=False), STRENGTHS, rtol=1e-12)


def test_aligned_starts_are_balanced_diagonal_and_equal():
    start = aligned(5, 4)
    torch.testing.assert_close(start[0][0], start[0][1])
    k = prefixes([matrix.double() for matrix in start])[-1][0]
    torch.testing.assert_close(
        k[:8] - torch.diag(k.diagonal()), torch.zeros(8, 8, dtype=torch.float64), atol=1e-8, rtol=0
    )
    assert (k.diagonal().diff() <= 0).all() and 0.006 < k.diagonal().min() < k.diagonal().max() < 0.014
    for below, above in pairwise(start):
        inner, outer = (above.mT @ above)[0], (below @ below.mT)[0]
        directions = torch.linalg.eigh(outer).eigenvectors[:, -8:]  # those that the inputs reach
        torch.testing.assert_close(inner @ directions, outer @ directions, atol=1e-5, rtol=1e-4)


def test_random_starts_have_the_strength_that_is_asked_for():
    products = [prefixes(pathways.random_start(seed, 4, 60, (15, 8), 0.02))[-1] for seed in range(40)]
    assert torch.stack(products).square().mean().sqrt().item() == pytest.approx(0.02, rel=0.1)


def test_networks_follow_the_euler_recursion_from_aligned_starts():
    depth, deficit = 3, Deficit("gate B", 20, 40)
    trained = networks([aligned(1, depth)])
    p = trained.strengths()[0].double().numpy().T ** (1 / depth)
    for epoch in range(0, 200, 10):
        trained.advance(10, deficit.gates(epoch))
    gates = theory.open_gates(200, np.array(20), np.array(40), (False, True))
    expected = theory.strength(theory.euler(p, STRENGTHS, depth, 0.0, gates[:, None], 0.01)[-1], depth, 0.0)
    np.testing.assert_allclose(trained.strengths()[0].numpy().T, expected, rtol=2e-4, atol=1e-6)


def prepared_folder(path: Path, **arrays: np.ndarray) -> Folder:
    """A folder of prepared data, with task.npz if there are arrays."""
    if not path.exists():
        out = OutFolder(path)
        if arrays:
            out.save_arrays("task.npz", **arrays)
        out.publish()
    return Folder(path)


def gate_run(folder: Path, seeds: tuple[int, ...], **changes) -> dict[str, torch.Tensor]:
    row = Pathways(
        experiment="pathways",
        start="random",
        width=16,
        initial=0.01,
        noise=0.0,
        gatings=[Gating(**{**GATING, **changes})],
    )
    config = RunConfig("critical_periods", "smoke", "r", "random", row, seeds, "cpu")
    run = Run(config, folder / "state", "same", save_seconds=0.0)
    gating.train_pathways(config, prepared_folder(folder / "data", targets=TARGETS.numpy()), run)
    return read_tensors(folder / "state" / "checkpoints" / "gating-0.safetensors")


def test_a_branch_equals_a_training_from_the_start_and_members_do_not_matter(tmp_path):
    together = gate_run(tmp_path / "three", (0, 1, 2))["course"]
    alone = gate_run(tmp_path / "one", (2,))["course"]
    assert torch.equal(together[:, :, 2], alone[:, :, 0])
    deficits = gating.deficits_of(Gating(**GATING))
    for number, deficit in enumerate(deficits):
        plain = networks([pathways.random_start(1, 3, 16, (15, 8), 0.01)])
        for epoch in range(60):
            plain.advance(1, deficit.gates(epoch))
        torch.testing.assert_close(together[number, -1, 1], plain.strengths()[0], rtol=1e-5, atol=1e-7)


def test_a_killed_training_ends_with_the_same_bytes(tmp_path, monkeypatch):
    whole = gate_run(tmp_path / "whole", (0, 1))
    original, calls = Networks.advance, []

    def dying(self, epochs, gates):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        original(self, epochs, gates)

    monkeypatch.setattr(Networks, "advance", dying)
    with pytest.raises(KeyboardInterrupt):
        gate_run(tmp_path / "killed", (0, 1))
    resumed = gate_run(tmp_path / "killed", (0, 1))
    assert len(calls) == 1 + len(gating.schedule(gating.deficits_of(Gating(**GATING)), 60, 10))
    for name, values in whole.items():
        assert torch.equal(values, resumed[name])


# --- matrix completion


def test_low_rank_matrices_and_observations():
    matrix = completion.low_rank_matrix(1, "final matrix", 20, 3)
    assert torch.linalg.matrix_rank(matrix.double(), rtol=1e-5) == 3
    assert matrix.square().mean().item() == pytest.approx(1.0, rel=1e-5)
    few, many = completion.observations(1, 20, [50, 90])
    assert few.sum() == 50 and many.sum() == 90 and (many >= few).all()


def test_completion_descends_the_mean_loss_member_by_member():
    count = completion.MEMBERS_AT_ONCE + 3
    starts = [completion.gaussian_start(seed, 3, 7, 0.5) for seed in range(count)]
    weights = [torch.stack(layer) for layer in zip(*starts, strict=True)]
    targets = torch.stack([completion.low_rank_matrix(seed, "t", 7, 2) for seed in range(count)])
    masks = torch.stack([completion.observations(seed, 7, [20 + seed % 3])[0] for seed in range(count)])
    completion.Tasks(targets, masks, 0.3).advance(weights, 4)
    for member in (0, count - 1):
        plain = [matrix.clone().double() for matrix in starts[member]]
        for _ in range(4):
            free = [matrix.requires_grad_() for matrix in plain]
            error = (targets[member].double() - free[2] @ free[1] @ free[0])[masks[member] > 0]
            gradients = torch.autograd.grad(0.5 * error.square().mean(), free)
            plain = [(matrix - 0.3 * gradient).detach() for matrix, gradient in zip(free, gradients, strict=True)]
        for layer, matrix in zip(weights, plain, strict=True):
            torch.testing.assert_close(layer[member].double(), matrix, rtol=1e-4, atol=1e-6)
        single = [matrix[None].clone() for matrix in starts[member]]
        completion.Tasks(targets[member : member + 1], masks[member : member + 1], 0.3).advance(single, 4)
        assert all(torch.equal(layer[member], matrix[0]) for layer, matrix in zip(weights, single, strict=True))


def transfer_history(folder: Path, **changes) -> pd.DataFrame:
    row = Transfer(**{**TRANSFER, **changes})
    run = Run(RunConfig("critical_periods", "smoke", "r", "depths", row, (0, 1), "cpu"), folder / "state", "same")
    transfer.train_transfer(run.config, prepared_folder(folder / "data"), run)
    run.publish(folder / "run", {})
    return Folder(folder / "run").table("history.parquet")


def test_continuations_equal_training_straight_through(tmp_path):
    history = transfer_history(tmp_path)
    cohort_settings = Transfer(**TRANSFER)
    for switch in (0, 10, 40):
        tasks = transfer.both_tasks(1, cohort_settings, OtherMatrix(kind="matrix", rank=3))
        weights = [matrix[None] for matrix in completion.gaussian_start(1, 2, 8, 1e-3)]
        for name, epochs in (("deficit", switch), ("final", 40)):
            completion.Tasks(tasks[name][None], tasks[f"{name} mask"][None], 1.0).advance(weights, epochs)
        error = (prefixes(weights)[-1] - tasks["final"]).square().mean().item()
        row = history[(history.phase == "final") & (history.epoch == 40) & (history.switch == switch)]
        assert row[row.seed == 1].error.item() == pytest.approx(error, rel=1e-5)


def test_depth_one_is_immune(tmp_path):
    history = transfer_history(tmp_path, learning_rates={1: 10.0}, final_epochs=100)
    ends = history[(history.phase == "final") & (history.epoch == 100)].pivot_table(
        index="seed", columns="switch", values="error"
    )
    assert ends.sub(ends[0], axis=0).abs().to_numpy().max() < 1e-6


# --- exact evolution


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_velocity_is_the_flow_of_balanced_factors(depth):
    """dW/dt = - sum_j (W W^T)^((j-1)/D) G (W^T W)^((D-j)/D), by brute-force matrix powers (Arora et al. 2018)."""
    stream = torch.Generator().manual_seed(1)
    product, gradient = torch.randn(2, 2, 5, 5, generator=stream, dtype=torch.float64)

    def power(matrix: torch.Tensor, exponent: float) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag_embed(values.clamp(min=0) ** exponent) @ vectors.mT

    expected = -sum(
        power(product @ product.mT, j / depth) @ gradient @ power(product.mT @ product, (depth - 1 - j) / depth)
        for j in range(depth)
    )
    torch.testing.assert_close(factorisation.velocity(product, gradient, depth), expected)


def test_the_evolution_is_of_fourth_order():
    product = torch.diag_embed(torch.tensor([[1.0, 2.0, 3.5]], dtype=torch.float64))
    target = torch.arange(9, dtype=torch.float64).reshape(1, 3, 3)

    def solve(steps: int) -> torch.Tensor:
        at = product
        for _ in range(steps):
            at = factorisation.runge_kutta_step(at, lambda w: w - target, 3, 0.02 / steps)
        return at

    reference = solve(64)
    ratio = (solve(2) - reference).norm() / (solve(4) - reference).norm()
    assert 10 < ratio < 24


# --- statistics, and the study as a whole


def test_pooled_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {"row": "deep", "kind": "matrix", "level": level, "depth": 3, "switch": switch, "seed": seed,
             "delta": 0.0 if switch == 0 else level + 4 * rng.normal()}
            for level in (1, 3, 6) for seed in range(9) for switch in (0, 5)
        ]
    )  # fmt: skip
    found = claims.c5({"transfer": table}, Interval.simultaneous(7))["correlation"]
    last = table[table["switch"] == 5]
    assert found.value == pytest.approx(stats.spearmanr(last["level"], last["delta"]).statistic)
    assert found.low < found.value < found.high


def test_the_lead_is_measured_within_the_gate():
    every = Gating(**{**GATING, "depth": 4})
    course = np.zeros((7, 1, 2, 8))
    course[3:] = STRENGTHS / 2  # learned from epoch 30 on
    found = probe.lead(Deficit("gate B", 20, 20), every, course, STRENGTHS)[0]
    np.testing.assert_allclose(found, STRENGTHS**0.5 * STRENGTHS * 0.01 * 10 * 0.5)  # trapezoid from 20 to 30


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        ("portrait", {"depths": [1, 5]}, "greater than or equal to 2"),
        ("portrait", {"depths": [5, 2]}, "ascend"),
        ("portrait", {"strength": 0.0}, "greater than 0"),
        ("portrait", {"late": 990}, "ends before the last step"),
        ("random", {"gatings": [{**GATING, "depth": 1}]}, "greater than or equal to 2"),
        ("random", {"gatings": [{**GATING, "onsets": [50]}]}, "after the end of training"),
        ("random", {"gatings": [{**GATING, "onsets": [5]}]}, "multiples of measure_every"),
        ("random", {"gatings": [{**GATING, "lesioned_mode": 2}]}, "purpose lesion"),
        ("random", {"gatings": [{**GATING, "purpose": "lesion", "lesioned_mode": 9}]}, "less than or equal to 8"),
        ("random", {"width": 8}, "greater than or equal to 15"),
        ("depths", {"rank": 17}, "rank at most 16"),
        ("depths", {"observed": 257}, "256 entries"),
        ("depths", {"learning_rates": {0: 1.0}}, "greater than or equal to 1"),
        ("depths", {"switches": [100, 200]}, "ascend from 0"),
        ("depths", {"switches": [0, 150]}, "multiples of measure_every"),
        ("depths", {"deficits": [{"kind": "subset", "observed": 60, "final_observed": 60}]}, "fewer entries"),
        ("interruption", {"onsets": [100, 200]}, "ascend from 0"),
        ("equations", {"depth": 1}, "greater than or equal to 2"),
        ("equations", {"followed": 11}, "ranks lie in 1..10"),
    ],
)
def test_settings_outside_the_theory_are_refused(row, changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(row, **changes)


def test_every_scale_is_valid():
    for scale in ("smoke", "laptop", "paper"):
        assert len(plan("critical_periods", scale).runs) >= 8
