"""The feature-emergence study's mathematics, against closed forms, brute force and torch's own modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from ontogeny.errors import ConfigError
from ontogeny.run import Run, RunConfig
from ontogeny.statistics import Interval
from ontogeny.studies.feature_emergence import claims, members, probe
from ontogeny.studies.feature_emergence.boundary import crossing, fit, half_fraction
from ontogeny.studies.feature_emergence.data import GroupData
from ontogeny.studies.feature_emergence.energy import (
    ascend,
    centred_targets,
    curvatures,
    gradient_and_energy,
    part_shares,
    random_units,
)
from ontogeny.studies.feature_emergence.grokking import Training, off_diagonal, spectrum, train_grokking, watch
from ontogeny.studies.feature_emergence.group_names import order
from ontogeny.studies.feature_emergence.groups import KINDS, check_group, decompose, inverses, multiplication_table
from ontogeny.studies.feature_emergence.network import (
    Gradient,
    initial_weights,
    labels,
    outputs,
    scores,
    training_pairs,
)
from ontogeny.studies.feature_emergence.optimisers import Adam, Muon, orthogonalised
from ontogeny.studies.feature_emergence.ridge import Lesson, activations, centred, nodes_of, repulsion, ridge_residual
from ontogeny.studies.feature_emergence.settings import Grokking, Theory
from ontogeny.study import load_study, plan

ADAM = {"name": "adam", "learning_rate": 0.01, "readout_learning_rate": None}
MUON = {"name": "muon", "learning_rate": 0.02, "readout_learning_rate": 0.01}


def group(name: str) -> GroupData:
    table = multiplication_table(name)
    return GroupData(table, decompose(table))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grokking(**changes) -> Grokking:
    fields = {
        "experiment": "grokking", "groups": ["C5"], "products": "group", "fractions": [0.6], "widths": [6],
        "optimisers": [ADAM], "weight_decays": [1e-3], "zero_readouts": [False], "epochs": 6, "log_every": 2,
        "stop_at": None, "diagnose": False, "keep_weights": True,
    }  # fmt: skip
    return Grokking(**{**fields, **changes})


# --- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "classes"),
    [("C7", 7, 7), ("C3xC5", 15, 15), ("D4", 8, 5), ("D7", 14, 5), ("Q8", 8, 5), ("Q12", 12, 6), ("S4", 24, 5),
     ("A4", 12, 4), ("A5", 60, 5), ("C7:C3", 21, 5)],
)  # fmt: skip
def test_groups_are_groups_with_the_known_number_of_conjugacy_classes(name: str, size: int, classes: int) -> None:
    table = multiplication_table(name)
    check_group(table)
    inverse = inverses(table)
    conjugate = {frozenset(table[table[g, h], inverse[g]] for g in range(size)) for h in range(size)}
    assert (order(name), len(table), len(conjugate)) == (size, size, classes)


def test_a_table_that_is_no_group_is_refused() -> None:
    table = multiplication_table("C5")
    with pytest.raises(ValueError, match="once in each row"):
        check_group(np.zeros((3, 3), dtype=int))
    with pytest.raises(ValueError, match="identity"):
        check_group(np.roll(table, 1, axis=0))
    latin = np.array([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]])
    with pytest.raises(ValueError, match="g h"):
        check_group(latin)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("C7", [(1, 2, "complex")] * 3),
        ("C2xC2", [(1, 1, "real")] * 3),
        ("S3", [(1, 1, "real"), (2, 2, "real")]),
        ("Q8", [(1, 1, "real")] * 3 + [(2, 4, "quaternionic")]),
        ("A4", [(1, 2, "complex"), (3, 3, "real")]),
        ("C7:C3", [(1, 2, "complex"), (3, 6, "complex")]),
        ("A5", [(3, 3, "real"), (3, 3, "real"), (4, 4, "real"), (5, 5, "real")]),
    ],
)
def test_irreducible_parts_are_those_of_the_character_tables(name: str, known: list) -> None:
    parts = decompose(multiplication_table(name))
    found = [
        (int(d), int(real), KINDS[kind])
        for d, real, kind in zip(parts.dimension, parts.real_dimension, parts.kind, strict=True)
    ]
    assert sorted(found) == sorted(known)
    np.testing.assert_allclose(parts.basis.T @ parts.basis, np.eye(len(parts.basis) - 1), atol=1e-10)
    assert np.abs(parts.basis.sum(axis=0)).max() < 1e-10


def test_parts_of_a_cyclic_group_are_fourier_modes() -> None:
    parts = decompose(multiplication_table("C11"))
    for part in range(5):
        power = np.abs(np.fft.fft(parts.basis[:, parts.part == part], axis=0)) ** 2
        assert (power.sum(axis=1) > 1e-9).sum() == 2


@pytest.mark.parametrize("name", ["C0", "C1", "C2", "D2", "Q6", "S6", "C7:C5", "C4:C2", "X3", "C5x", "", "C500"])
def test_groups_that_do_not_exist_are_refused_before_anything_trains(name: str) -> None:
    for row, change in (("boundary", {"groups": [name]}), ("rates", {"groups": ["C7", name]})):
        with pytest.raises(ConfigError, match="group"):
            plan("feature_emergence", "smoke", {"sweep": {row: change}})
    with pytest.raises(ConfigError, match="group"):
        plan("feature_emergence", "smoke", {"data": {"groups": [name]}})


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        ("boundary", {"fractions": [0.0]}, "greater than 0"),
        ("boundary", {"fractions": [1.0]}, "less than 1"),
        ("boundary", {"groups": ["C3"], "fractions": [0.01]}, "no pair to train or to test on"),
        ("boundary", {"groups": ["C3"], "fractions": [0.99]}, "no pair to train or to test on"),
        ("boundary", {"widths": [0]}, "at least 2|greater than or equal to 2"),
        ("boundary", {"weight_decays": [-1]}, "greater than or equal to 0"),
        ("boundary", {"stop_at": 1.5}, "less than or equal to 1"),
        ("rates", {"stop_at": 0.9}, "train to the end"),
        ("rates", {"optimisers": [{**ADAM, "learning_rate": 0}]}, "greater than 0"),
        ("widths", {"optimisers": [{**MUON, "readout_learning_rate": None}]}, "given for muon"),
        ("widths", {"optimisers": [{**ADAM, "name": "sgd"}]}, "not among"),
        ("theory", {"landscape": {"groups": ["C8"], "starts": 5, "iterations": 50}}, "odd order"),
        ("theory", {"missing": {"groups": ["C3"], "starts": 5, "iterations": 50, "decay": 0.1}}, "single feature"),
        ("theory", {"missing": {"groups": ["C5"], "starts": 5, "iterations": 50, "decay": 0}}, "greater than 0"),
    ],
)
def test_bad_values_are_refused_before_anything_trains(row: str, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan("feature_emergence", "smoke", {"sweep": {row: change}})


# --- the energy -------------------------------------------------------------------------------------------------------


def brute_force_energy(name: str, w: np.ndarray) -> float:
    """E(w) by the definition, with one-hot inputs and targets."""
    table = multiplication_table(name)
    size = len(table)
    inputs = np.array([np.r_[np.eye(size)[g], np.eye(size)[h]] for g in range(size) for h in range(size)])
    targets = np.eye(size)[table.ravel()]
    return 0.5 * float((((targets - targets.mean(axis=0)).T @ (inputs @ w) ** 2) ** 2).sum())


@pytest.mark.parametrize("name", ["C5", "D3", "Q8"])
def test_energy_and_gradient_equal_the_definition(name: str) -> None:
    data = group(name)
    size = len(data.table)
    w = random_units(2, 2 * size, stream())
    gradient, energy = gradient_and_energy(centred_targets(torch.from_numpy(data.table)), w)
    for row in range(2):
        assert float(energy[row]) == pytest.approx(brute_force_energy(name, w[row].numpy()))
        for coordinate in (0, size + 1):
            step = np.eye(2 * size)[coordinate] * 1e-5
            rise = [brute_force_energy(name, w[row].numpy() + sign * step) for sign in (1, -1)]
            assert float(gradient[row, coordinate]) == pytest.approx((rise[0] - rise[1]) / 2e-5, rel=1e-6)


def test_energy_of_a_pure_wave_is_a_quarter_of_the_order() -> None:
    size, k = 13, 3
    angle = 2 * np.pi * k * np.arange(size) / size
    w = np.r_[np.cos(angle + 0.7), np.cos(angle - 1.9)]
    assert brute_force_energy("C13", w / np.linalg.norm(w)) == pytest.approx(size / 4)


@pytest.mark.parametrize("name", ["C7", "C4", "D5", "Q8", "A4", "C7:C3"])
def test_ascents_end_on_single_parts_at_the_closed_form(name: str) -> None:
    data = group(name)
    starts = random_units(30, 2 * len(data.table), stream())
    ends, energy = ascend(centred_targets(torch.from_numpy(data.table)), starts, 2000)
    peak, part = part_shares(ends.view(30, 2, -1), data.parts).max(dim=1)
    assert float(peak.min()) > 0.999
    np.testing.assert_allclose(energy.numpy(), data.parts.maxima[part.numpy()], rtol=1e-8)


def test_an_ascent_never_descends() -> None:
    data = group("D5")
    residual, w = centred_targets(torch.from_numpy(data.table)), random_units(20, 20, stream())
    energies = []
    for _ in range(25):
        w, energy = ascend(residual, w, 1)
        energies.append(energy)
    assert float(torch.stack(energies).diff(dim=0).min()) > -1e-12


@pytest.mark.parametrize("name", ["C7", "S3", "Q8", "C7:C3"])
def test_flat_directions_are_as_many_as_derived_and_nothing_curves_up(name: str) -> None:
    data = group(name)
    for part, expected in enumerate(data.parts.zero_modes):
        start = nodes_of(data.parts, [part], stream())[:1].flatten(1)
        end, _ = ascend(centred_targets(torch.from_numpy(data.table)), start, 5000)
        found = curvatures(end[0].numpy(), data.table)
        assert (np.abs(found) < 1e-6 * np.abs(found).max()).sum() == expected
        assert found.max() < 1e-6 * np.abs(found).max()


def test_curvatures_equal_finite_differences_of_the_energy() -> None:
    table = multiplication_table("C5")
    w = random_units(1, 10, stream(3))[0].numpy()
    tangent = np.linalg.svd(w[None])[2][1:]

    def height(point: np.ndarray) -> float:
        return brute_force_energy("C5", point / np.linalg.norm(point))

    step, size = 1e-4, len(tangent)
    hessian = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            a, b = step * tangent[i], step * tangent[j]
            hessian[i, j] = (height(w + a + b) - height(w + a - b) - height(w - a + b) + height(w - a - b)) / (
                4 * step**2
            )
    np.testing.assert_allclose(curvatures(w, table), np.linalg.eigvalsh(hessian), atol=1e-5)


# --- networks ---------------------------------------------------------------------------------------------------------


def brute_force_loss(weights: torch.Tensor, pairs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """The loss of one network as the paper's code has it: one-hot inputs, outputs and labels centred over classes."""
    size = weights.shape[1]
    inputs = torch.cat(
        [functional.one_hot(pairs // size, size), functional.one_hot(pairs % size, size)], dim=1
    ).double()
    out = (inputs @ weights[:2].flatten(0, 1)).square() @ weights[2].T
    label = functional.one_hot(answers[pairs], size).double()
    return ((out - out.mean(dim=1, keepdim=True) - label + 1 / size) ** 2).sum(dim=1).mean()


@pytest.mark.parametrize("name", ["C5", "D3"])
def test_gradient_and_scores_equal_brute_force(name: str) -> None:
    table = torch.from_numpy(multiplication_table(name))
    size = len(table)
    answers = torch.stack([labels(table, False, 0), labels(table, True, 1)])
    pairs = torch.stack([training_pairs(size, 0.6, seed) for seed in (0, 1)])
    weights = initial_weights([0, 1], size, 7, [False, False], "cpu")
    found = Gradient(weights, pairs, answers)()
    trained = torch.zeros(2, size**2, dtype=torch.bool).scatter_(1, pairs, True)
    scored = scores(weights, trained, answers)
    for row in range(2):
        tracked = weights[row].double().requires_grad_()
        loss = brute_force_loss(tracked, pairs[row], answers[row])
        expected = torch.autograd.grad(loss, tracked)[0].float()
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-6)
        assert float(scored["train_loss"][row]) == pytest.approx(float(loss.detach()), rel=1e-5)
        right = outputs(weights)[row].argmax(dim=1) == answers[row]
        assert float(scored["test_accuracy"][row]) == pytest.approx(float(right[~trained[row]].double().mean()))


def test_the_loss_of_a_silent_network_is_known() -> None:
    table = torch.from_numpy(multiplication_table("C7"))
    weights = initial_weights([0], 7, 5, [True], "cpu")
    trained = torch.arange(49)[None] % 2 == 0
    assert float(scores(weights, trained, table.flatten()[None])["train_loss"][0]) == pytest.approx(1 - 1 / 7)


def test_start_is_torchs_and_zero_readout_keeps_the_first_layer() -> None:
    plain, zero = initial_weights([3, 3], 23, 64, [False, True], "cpu")
    assert torch.equal(plain[:2], zero[:2]) and not zero[2].any()
    assert float(plain[:2].abs().max()) == pytest.approx(46**-0.5, rel=0.01)
    assert float(plain[2].abs().max()) == pytest.approx(1 / 8, rel=0.01)


def test_splits_are_nested_and_shuffling_keeps_the_labels() -> None:
    small, large = training_pairs(9, 0.3, 1), training_pairs(9, 0.7, 1)
    assert len(small) == round(0.3 * 81) and set(small.tolist()) < set(large.tolist())
    table = torch.from_numpy(multiplication_table("C9"))
    assert torch.equal(labels(table, True, 0).bincount(), table.flatten().bincount())
    assert not torch.equal(labels(table, True, 0), table.flatten())


def test_adam_is_torchs_with_weight_decay_in_the_gradient() -> None:
    weights = torch.randn(2, 3, 4, 5, generator=stream())
    references = [weights[row].clone().requires_grad_() for row in range(2)]
    decays = (0.0, 0.1)
    others = [torch.optim.Adam([r], lr=0.01, weight_decay=d) for r, d in zip(references, decays, strict=True)]
    ours = Adam(weights, 0.01, torch.tensor(decays))
    for number in range(5):
        gradient = torch.randn(weights.shape, generator=stream(number))
        for row, (reference, other) in enumerate(zip(references, others, strict=True)):
            reference.grad = gradient[row].clone()
            other.step()
        ours.step(gradient)
    torch.testing.assert_close(weights, torch.stack([reference.detach() for reference in references]))


@pytest.mark.parametrize("shape", [(3, 4, 9), (2, 8, 5)])
def test_orthogonalised_keeps_singular_vectors_and_levels_singular_values(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(*shape, generator=stream(), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    core = left.mT @ orthogonalised(matrices) @ right.mT
    diagonal = core.diagonal(dim1=1, dim2=2)
    assert 0.6 < float(diagonal.min()) <= float(diagonal.max()) < 1.3
    assert float((core - torch.diag_embed(diagonal)).abs().max()) < 1e-10


def test_muon_moves_the_first_layer_by_orthogonal_steps_and_the_readout_by_adam() -> None:
    weights = torch.randn(2, 3, 4, 5, generator=stream())
    before, gradient = weights.clone(), torch.randn(2, 3, 4, 5, generator=stream(1))
    Muon(weights, 0.1, 0.01, torch.zeros(2)).step(gradient.clone())
    moved = (before - weights)[:, :2].flatten(1, 2) / 0.1
    torch.testing.assert_close(moved, orthogonalised(gradient[:, :2].flatten(1, 2)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close((before - weights)[:, 2], 0.01 * gradient[:, 2].sign(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimiser", [ADAM, MUON])
def test_a_member_of_an_ensemble_equals_the_member_alone(optimiser: dict) -> None:
    settings = grokking(optimisers=[optimiser], zero_readouts=[False, True], weight_decays=[0.0, 0.01])
    data = group("C5")
    (crew,) = members.crews(settings, (0, 1, 2), "cpu")
    together = Training(crew, data, settings, "cpu")
    together.advance(20)
    for index in (0, 5, 11):
        alone = Training(members.Crew((crew.members[index],), crew.optimiser), data, settings, "cpu")
        alone.advance(20)
        torch.testing.assert_close(together.weights[index], alone.weights[0], rtol=1e-4, atol=1e-6)


def test_crews_fit_the_cache_and_keep_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = grokking(fractions=[0.4, 0.6], widths=[6, 12])
    whole = members.crews(settings, range(5), "cpu")
    monkeypatch.setattr(members, "CACHE_ELEMENTS", 200)
    cut = members.crews(settings, range(5), "cpu")
    everyone = [member for crew in whole for member in crew.members]
    assert len(cut) > len(whole) == 4
    assert everyone == [member for crew in cut for member in crew.members]


class Data:
    """Stands for the data folder."""

    manifest = {"group-C5.npz": ""}

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        data = group("C5")
        return {"table": data.table, **vars(data.parts)}


def history(folder: Path, settings: Grokking, kill_after: int | None = None) -> pd.DataFrame:
    config = RunConfig("feature_emergence", "smoke", "run", "stages", settings, (0, 1), "cpu")
    if kill_after is not None:
        run = Run(config, folder / "state", "same", save_seconds=0)
        logged = run.log
        calls = 0

        def count(**columns) -> None:
            nonlocal calls
            calls += 1
            if calls > kill_after:
                raise KeyboardInterrupt
            logged(**columns)

        run.log = count
        with pytest.raises(KeyboardInterrupt):
            train_grokking(config, Data(), run)
    run = Run(config, folder / "state", "same", save_seconds=0)
    train_grokking(config, Data(), run)
    run.publish(folder / "out", {})
    return pd.read_parquet(folder / "out" / "history.parquet")


@pytest.mark.parametrize("optimiser", [ADAM, MUON])
def test_a_killed_training_goes_on_bit_for_bit(optimiser: dict, tmp_path: Path) -> None:
    settings = grokking(optimisers=[optimiser], diagnose=True, epochs=12)
    whole = history(tmp_path / "whole", settings)
    killed = history(tmp_path / "killed", settings, kill_after=4)
    keys = ["seed", "epoch"]
    pd.testing.assert_frame_equal(
        whole.sort_values(keys, ignore_index=True),
        killed.drop_duplicates(keys).sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    shutil.rmtree(tmp_path)


def test_a_finished_network_is_logged_no_more(tmp_path: Path) -> None:
    changes = {"fractions": [0.5], "widths": [64], "epochs": 60, "log_every": 4, "keep_weights": False}
    whole = history(tmp_path / "whole", grokking(**changes))
    level = 1 / 13  # one right answer among the test pairs
    stopped = history(tmp_path / "stopped", grokking(**changes, stop_at=level))
    assert len(stopped) < len(whole)
    for seed, curve in whole.groupby("seed"):
        seen = curve[(curve.test_accuracy >= level).cumsum().shift(fill_value=0) == 0].reset_index(drop=True)
        found = stopped[stopped.seed == seed].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, seen, check_exact=True)


# --- what is watched --------------------------------------------------------------------------------------------------


def test_the_gradient_that_is_watched_is_that_of_the_loss_with_respect_to_features() -> None:
    table = torch.from_numpy(multiplication_table("C5")).flatten()
    weights, pairs = initial_weights([0], 5, 6, [False], "cpu")[0].double(), training_pairs(5, 0.7, 0)
    features = centred((weights[0, pairs // 5] + weights[1, pairs % 5]).square()).requires_grad_()
    targets = centred(functional.one_hot(table[pairs], 5).double())
    readout = weights[2] - weights[2].mean(dim=0)
    loss = 0.5 * (targets - features @ readout.T).square().sum()
    gradient = -torch.autograd.grad(loss, features)[0]
    wanted = targets @ targets.T @ features.detach()
    seen = watch(weights, pairs, table[pairs])
    assert float(seen["gradient_norm"]) == pytest.approx(float(gradient.norm()))
    cosine = float((gradient * wanted).sum() / gradient.norm() / wanted.norm())
    assert float(seen["alignment"]) == pytest.approx(cosine)


def test_off_diagonal_of_a_known_matrix() -> None:
    assert float(off_diagonal(torch.tensor([[2.0, -1.0], [-1.0, 4.0]]))) == pytest.approx(1 / 3)


def test_spectrum_counts_pure_nodes_and_ignores_dead_ones() -> None:
    data = group("C7")
    angle = 2 * torch.pi * torch.arange(7) / 7
    weights = torch.zeros(1, 3, 7, 4)
    for node, k in enumerate((1, 1, 3)):
        weights[0, :2, :, node] = torch.cos(k * angle + node)
    weights[0, :2, :, 3] = 1e-6 * torch.cos(2 * angle)
    seen = spectrum(weights, data)
    assert float(seen["features"][0]) == 2
    assert float(seen["peak_share"][0]) == pytest.approx(1, abs=1e-5)


def test_node_energies_equal_the_energy_on_the_full_table() -> None:
    data = group("D3")
    w = random_units(4, 12, stream())
    layer = 3 * w.view(4, 2, 6).permute(1, 2, 0)
    found = probe.node_energies(layer, torch.arange(36), data)
    expected = [brute_force_energy("D3", row.numpy()) for row in w]
    np.testing.assert_allclose(found.numpy(), expected)


# --- ridge ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lesson() -> tuple[torch.Tensor, torch.Tensor, Lesson]:
    features = centred(torch.randn(12, 20, generator=stream(), dtype=torch.float64))
    targets = centred(torch.randn(12, 5, generator=stream(1), dtype=torch.float64))
    return features, targets, Lesson(features, targets)


def sent_back(features: torch.Tensor, targets: torch.Tensor, readout: torch.Tensor) -> tuple[float, float]:
    gradient = (targets - features @ readout) @ readout.T
    wanted = targets @ targets.T @ features
    return float(gradient.norm()), float((gradient * wanted).sum() / gradient.norm() / wanted.norm())


def test_the_ridge_lesson_equals_the_definition(lesson: tuple) -> None:
    features, targets, ours = lesson
    readout = torch.linalg.solve(features.T @ features + 0.3 * torch.eye(20), features.T @ targets)
    assert ours.ridge(0.3) == pytest.approx(sent_back(features, targets, readout))
    torch.testing.assert_close(ridge_residual(features, targets, 0.3), targets - features @ readout)


def test_the_early_lesson_equals_gradient_descent_with_small_steps(lesson: tuple) -> None:
    features, targets, ours = lesson
    readout, steps = torch.zeros(20, 5, dtype=torch.float64), 20_000
    size = 2.0 / float(ours.spectrum.max()) / steps
    for _ in range(steps):
        readout += size * features.T @ (targets - features @ readout)
    assert ours.flow(2.0) == pytest.approx(sent_back(features, targets, readout), rel=1e-3)
    assert ours.flow(1e-6)[1] == pytest.approx(1)


def test_signs_of_the_inverse_gram_matrix_oppose_projected_products() -> None:
    features = centred(torch.randn(30, 8, generator=stream(), dtype=torch.float64))
    assert repulsion(features, 0.1)[0] == 1
    alike = features[:, :1] + 0.01 * features[:, 1:2]
    pair = torch.cat([features[:, :1], alike, features[:, 2:3]], dim=1)
    assert float(torch.linalg.inv(pair.T @ pair + 0.1 * torch.eye(3))[0, 1]) < 0


def test_nodes_of_some_frequencies_leave_the_others_to_learn() -> None:
    data = group("C7")
    features = activations(nodes_of(data.parts, [0, 2], stream()), torch.arange(49))
    residual = ridge_residual(features, centred_targets(torch.from_numpy(data.table)), 1e-6)
    sums = torch.zeros(7, 7, dtype=torch.float64).index_add_(0, torch.from_numpy(data.table).flatten(), residual) / 7
    left = torch.linalg.matrix_norm(torch.from_numpy(data.parts.basis).T @ sums, dim=(0, 1))
    present = torch.from_numpy(data.parts.basis[:, np.isin(data.parts.part, [0, 2])]).T @ sums
    assert float(present.norm()) < 1e-4 * float(left)
    assert float(left) == pytest.approx(2**0.5, rel=1e-4)


# --- claims -----------------------------------------------------------------------------------------------------------


def test_crossings_by_hand() -> None:
    x = np.array([0.0, 1.0, 2.0])
    assert crossing(x, np.array([0.0, 0.4, 0.8]), 0.5) == pytest.approx(1.25)
    assert crossing(x, np.array([0.6, 0.4, 0.8]), 0.5) == 0
    assert crossing(x, np.array([0.0, 0.1, 0.2]), 0.5) == np.inf
    assert half_fraction(x, np.array([0.0, 0.1, 0.2])) == 1
    assert half_fraction(x, np.array([0.9, 1.0, 1.0])) == 0


def test_the_law_of_the_boundary_is_told_from_its_rivals() -> None:
    sizes = np.array([11, 13, 17, 23, 31])
    noise = 1 + 0.02 * np.array([1, -1, 1, -1, 1])
    table = pd.DataFrame({
        "group": "C", "cyclic": True, "order": np.tile(sizes, 4), "seed": np.repeat(np.arange(4), 5), "censored": False,
        "scale": np.tile(np.log(sizes) / sizes, 4), "f50": np.tile(2.5 * np.log(sizes) / sizes * noise, 4),
    })  # fmt: skip
    other = table.assign(cyclic=False, f50=0.5)
    found = claims.c1({"boundaries": pd.concat([table, other])}, Interval(0.95))
    assert found["slope"].value == pytest.approx(2.5, rel=0.01)
    assert found["cv"].value < 0.03 and found["r2"].value > 0.98
    assert found["against_constant"].value > 6 and found["against_root"].value > 0
    flat = claims.c1({"boundaries": pd.concat([table.assign(f50=0.4), other])}, Interval(0.95))
    assert flat["against_constant"].value < -6 and flat["cv"].value > 0.15
    assert fit("constant", sizes, np.full(5, 0.4))[0] == pytest.approx(0.4)


def test_a_network_that_never_gets_there_counts_as_slow() -> None:
    runs = pd.DataFrame(
        [
            ("zero_start", f, z, s, 100, np.inf if not z else 50.0)
            for f in (0.4, 0.6)
            for z in (False, True)
            for s in (0, 1, 2)
        ],
        columns=["row", "fraction", "zero_readout", "seed", "epoch", "epoch_90"],
    )
    found = claims.c5({"outcomes": runs}, Interval(0.95))
    assert found["ratio"].value == pytest.approx(4) and found["scarce_over_rich"].value == pytest.approx(1)


def test_best_rates_are_chosen_for_each_optimiser_and_width() -> None:
    runs = pd.DataFrame(
        [(o, w, r, s, loss + 0.01 * s) for o, w, r, loss in
         [("adam", 4, 0.1, 1.0), ("adam", 4, 0.2, 0.5), ("muon", 4, 0.1, 0.3), ("muon", 4, 0.2, 0.4)] for s in (0, 1)],
        columns=["optimiser", "width", "learning_rate", "seed", "test_loss"],
    )  # fmt: skip
    best = claims.best_rates(runs)
    assert set(zip(best.optimiser, best.learning_rate, strict=True)) == {("adam", 0.2), ("muon", 0.1)}


def test_every_row_of_the_sweep_is_valid_at_every_scale() -> None:
    for scale in ("smoke", "laptop", "paper"):
        runs = plan("feature_emergence", scale).runs.values()
        listed = set(plan("feature_emergence", scale).data["groups"])
        for run in runs:
            theory = run.settings["experiment"] == "theory"
            typed = (Theory if theory else Grokking)(**run.settings)
            used = [typed.lazy.group, *typed.landscape.groups, *typed.missing.groups] if theory else typed.groups
            assert set(used) <= listed, (scale, run.name)
    assert load_study("feature_emergence").claims["c1"].headline
