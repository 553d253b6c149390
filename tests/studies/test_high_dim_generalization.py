"""high_dim_generalization: theory, flows and gradients against closed forms, quadrature, brute force and autograd."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate

from ontogeny.errors import ConfigError
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.statistics import Interval
from ontogeny.studies.high_dim_generalization import bench, claims, digits, features, linear, theory
from ontogeny.studies.high_dim_generalization.settings import DataSettings, Digits, Features, Linear, RunSettings
from ontogeny.study import plan

SLUG = "high_dim_generalization"
DOUBLE = torch.float64
TIMES = torch.tensor([0.0, 0.3, 4.0, 70.0], dtype=DOUBLE)


def row(name: str, **changes: object) -> Linear | Features | Digits:
    settings = plan(SLUG, "smoke").runs[f"{name}-s0-2"].settings
    return validate(RunSettings, {**settings, **changes}, "test")


# --- theory


@pytest.mark.parametrize("load", [0.1, 0.5, 1.0, 1.25, 4.0])
def test_the_law_has_its_mass_and_moments(load: float) -> None:
    values, weights = theory.bulk(load)
    assert weights.sum() == pytest.approx(min(load, 1.0), rel=1e-10)
    assert weights @ values == pytest.approx(load, rel=1e-10)  # trace
    assert weights @ values**2 == pytest.approx(load + load**2, rel=1e-10)  # second moment of Marchenko and Pastur


@pytest.mark.parametrize(("load", "time", "ridge"), [(0.5, 3.0, 0.0), (1.0, 20.0, 0.3), (2.0, 1.0, 0.05)])
def test_errors_equal_an_independent_integration(load: float, time: float, ridge: float) -> None:
    snr, inr = 5.0, 0.7

    def error(value: float) -> float:
        left = np.exp(-(value + ridge) * time)
        gain = (1 - left) / (value + ridge)
        return inr * left**2 + (1 - value * gain) ** 2 + value * gain**2 / snr

    found = integrate.quad(lambda v: theory.density(v, load) * error(v), *theory.edges(load), limit=500)[0]
    frozen = max(1 - load, 0) * (1 + inr * np.exp(-2 * ridge * time))
    assert theory.generalisation(load, time, ridge).total(snr, inr) == pytest.approx(found + frozen, rel=1e-6)


@pytest.mark.parametrize("load", [0.25, 0.8, 1.25, 3.0])
def test_limits_of_endless_training(load: float) -> None:
    snr = 5.0
    assert theory.generalisation(load, np.inf).total(snr) == pytest.approx(theory.minimum_norm(load, snr), rel=1e-8)
    ridge = theory.generalisation(load, np.inf, 1 / snr).total(snr)
    assert ridge == pytest.approx(theory.optimal_ridge_error(load, snr), rel=1e-8)
    others = theory.generalisation(load, np.inf, np.array([0.5, 0.9, 1.1, 2.0]) / snr).total(snr)
    assert (others > ridge).all()
    assert theory.generalisation(load, np.inf).total(snr, 2.0) == pytest.approx(
        theory.minimum_norm(load, snr) + 2 * max(1 - load, 0), rel=1e-8
    )


def test_the_peak_grows_as_derived() -> None:
    times = np.array([1e4, 1e6])
    noise = theory.generalisation(1.0, times, nodes=65536).noise / 5
    deviation = np.abs(noise / theory.peak(times, 5.0) - 1)
    assert (deviation < [0.02, 0.002]).all(), deviation


def test_nothing_is_learned_at_time_zero() -> None:
    parts = theory.generalisation(0.5, 0.0)
    np.testing.assert_allclose([parts.teacher, parts.initial, parts.noise], [1, 1, 0], atol=1e-12)
    assert theory.training(2.0, 0.0).total(5.0) == pytest.approx(1 + 1 / 5)  # variance of a label


@pytest.mark.parametrize(("load", "snr"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)])
def test_theory_refuses_what_lies_outside_its_domain(load: float, snr: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        theory.minimum_norm(load, snr)
    with pytest.raises(ValueError, match="not negative"):
        theory.generalisation(1.0, -1.0)


# --- linear students


def problem(samples: int = 12, inputs: int = 20) -> tuple[linear.Draw, dict[str, torch.Tensor]]:
    drawn = linear.draw(3, samples, inputs)
    return drawn, {name: value[None] for name, value in linear.coordinates(drawn).items()}


@pytest.mark.parametrize("samples", [12, 30])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_the_flow_solves_its_equation(samples: int, ridge: float) -> None:
    """Against the matrix exponential of the augmented system d(w, 1)/dt = (-(H + g) w + c, 0)."""
    drawn, modes = problem(samples)
    snr, inr = 5.0, 2.0
    start, labels = inr**0.5 * drawn["start"], drawn["x"] @ drawn["teacher"] + snr**-0.5 * drawn["noise"]
    system = torch.zeros(21, 21, dtype=DOUBLE)
    system[:20, :20] = -(linear.correlation(drawn["x"]) + ridge * torch.eye(20, dtype=DOUBLE))
    system[:20, 20] = drawn["x"].T @ labels
    found = linear.mix(linear.error_parts(modes, TIMES, torch.full_like(TIMES, ridge)), snr, inr)[0]
    for time, error in zip(TIMES, found, strict=True):
        weights = torch.linalg.matrix_exp(time * system)[:20] @ torch.cat([start, torch.ones(1, dtype=DOUBLE)])
        assert error == pytest.approx((weights - drawn["teacher"]).square().mean().item(), rel=1e-9)


@pytest.mark.parametrize("samples", [12, 30])
def test_training_error_is_that_of_the_weights(samples: int) -> None:
    drawn, modes = problem(samples)
    labels = drawn["x"] @ drawn["teacher"] + 5**-0.5 * drawn["noise"]
    best = torch.linalg.pinv(drawn["x"]) @ labels
    ends = linear.residual(modes, samples, torch.tensor([0.0, 1e9], dtype=DOUBLE), 5.0)[0]
    assert ends[0] == pytest.approx(labels.square().mean().item())
    assert ends[1] == pytest.approx((labels - drawn["x"] @ best).square().mean().item(), abs=1e-12)


def test_simulated_students_approach_the_theory() -> None:
    inputs, seeds = 100, 40
    found = [linear.coordinates(linear.draw(seed, 200, inputs)) for seed in range(seeds)]
    modes = {name: torch.stack([one[name] for one in found]) for name in found[0]}
    error = linear.mix(linear.error_parts(modes, TIMES, torch.zeros_like(TIMES)), 5.0, 1.0)
    predicted = theory.generalisation(2.0, TIMES.numpy()).total(5.0, 1.0)
    deviation = (error.mean(dim=0).numpy() - predicted) / (error.std(dim=0).numpy() / seeds**0.5)
    assert np.abs(deviation).max() < 4


def test_discrete_descent_follows_the_flow_and_never_leaves_the_row_space() -> None:
    settings = row("linear", descent={"seeds": 2, "rate": 0.001, "steps": 4000})
    problems = linear.Problems(settings, [0, 1], "cpu")
    weights = problems.start.clone()
    for _ in range(4000):
        problems.advance(weights)
    time = 4000 * problems.step[:, 0]
    for member, (load, seed) in enumerate(problems.members):
        drawn = linear.draw(seed, round(load * settings.inputs), settings.inputs)
        modes = {name: value[None] for name, value in linear.coordinates(drawn).items()}
        flow = linear.mix(
            linear.error_parts(modes, time[member, None], torch.zeros(1, dtype=DOUBLE)), settings.snr, 1.0
        )
        assert (weights - problems.teacher)[member].square().mean() == pytest.approx(flow.item(), rel=2e-3)
    assert problems.frozen_share(weights).max() < 1e-11


def test_a_data_set_does_not_depend_on_its_neighbours() -> None:
    settings = row("linear")
    both, alone = (linear.Problems(settings, seeds, "cpu") for seeds in ([0, 1], [1]))
    weights = [problems.start.clone() for problems in (both, alone)]
    for _ in range(20):
        both.advance(weights[0])
        alone.advance(weights[1])
    torch.testing.assert_close(weights[0][1::2], weights[1], rtol=1e-13, atol=1e-13)


# --- random features


def test_the_kernel_is_the_mean_product_of_rectified_projections() -> None:
    left, right = (torch.randn(count, 3, generator=generator(count, "w"), dtype=DOUBLE) for count in (4, 5))
    x = torch.randn(400_000, 3, generator=generator(0, "x"), dtype=DOUBLE)
    sampled = (x @ left.T).relu().T @ (x @ right.T).relu() / len(x)
    torch.testing.assert_close(features.kernel(left, right), sampled, rtol=0.02, atol=0.02)
    torch.testing.assert_close(features.mean_feature(left), (x @ left.T).relu().mean(dim=0), rtol=0.02, atol=0.0)
    same = features.kernel(left, left).diagonal()
    torch.testing.assert_close(same, left.square().sum(dim=1) / 2)


@pytest.mark.parametrize("width", [8, 50])
def test_students_follow_gradient_descent_and_have_the_error_of_a_test_set(width: int) -> None:
    settings = row("features")
    task, weights = features.make_task(5, settings, "cpu"), features.student_weights(5, width, settings, "cpu")
    phi, output, rate = (task.x @ weights.T).relu(), torch.zeros(width, dtype=DOUBLE), 1e-3
    for _ in range(3000):
        output += rate * phi.T @ (task.y - phi @ output) / len(phi)
    found = features.flow(task, weights, torch.tensor([3.0], dtype=DOUBLE))
    assert found.residual.item() == pytest.approx((phi @ output - task.y).square().mean().item(), rel=1e-2)
    assert found.norm.item() == pytest.approx(output.norm().item(), rel=1e-2)
    x = torch.randn(200_000, settings.inputs, generator=generator(0, "x"), dtype=DOUBLE)
    target = (x @ task.hidden.T).relu() @ task.output - task.offset
    error = ((x @ weights.T).relu() @ output - target).square().mean()
    assert found.error.item() == pytest.approx(error.item(), rel=2e-2)
    assert (target.mean().item(), target.var().item()) == (pytest.approx(0, abs=0.01), pytest.approx(1, rel=0.02))


def test_both_gram_matrices_give_the_same_weights() -> None:
    settings = row("features")
    task, weights = features.make_task(1, settings, "cpu"), features.student_weights(1, 30, settings, "cpu")
    phi = (task.x @ weights.T).relu()
    values, drive, directions = features.basis(torch.cat([phi, torch.zeros(30, 1, dtype=DOUBLE)], dim=1), task.y)
    wide = directions[:30] @ (drive * -torch.expm1(-2 * values) / values)
    values, drive, directions = features.basis(phi, task.y)
    torch.testing.assert_close(wide, directions @ (drive * -torch.expm1(-2 * values) / values))


# --- digits


def images(seeds: int = 2) -> digits.Images:
    x = torch.randn(seeds, 15, 6, generator=generator(0, "x"), dtype=DOUBLE)
    y = torch.randn(seeds, 15, 1, generator=generator(0, "y"), dtype=DOUBLE).sign()
    return digits.Images(x, y, x[0], y[0])


def double(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() for name, value in state.items()}


def make_group(members: list[digits.Member]) -> digits.Group:
    group = digits.make_group(members, "cpu")
    return replace(group, owner=group.owner.double())


MEMBERS = [(3, 0.5), (5, 2.0)]


def test_gradients_equal_those_of_automatic_differentiation() -> None:
    group, data = make_group(MEMBERS), images()
    state = double(digits.start(group, [0, 1], 6, "cpu"))
    first, second = (state[name][0].clone().requires_grad_() for name in ("first", "second"))
    loss = (torch.relu(data.x[0] @ first) @ second - data.y[0]).square().mean(dim=0).sum() / 2
    expected = torch.autograd.grad(loss, (first, second))
    found = digits.gradients(data.x[0], data.y[0], first.detach(), second.detach())
    torch.testing.assert_close(found, expected)


def test_a_member_trains_as_it_would_alone() -> None:
    data, group = images(), make_group(MEMBERS)
    alone = make_group(MEMBERS[1:])
    one = digits.Images(data.x[1:], data.y[1:], data.test_x, data.test_y)
    together, single = (double(digits.start(who, seeds, 6, "cpu")) for who, seeds in ((group, [0, 1]), (alone, [1])))
    rates = [digits.learning_rates(which, who, state, 0.3) for which, who, state in
             ((data, group, together), (one, alone, single))]  # fmt: skip
    for _ in range(30):
        digits.descend(data, together, rates[0], 0.9)
        digits.descend(one, single, rates[1], 0.9)
    torch.testing.assert_close(together["first"][1, :, 3:], single["first"][0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(together["second"][1, 3:, 1], single["second"][0, :, 0], rtol=1e-10, atol=1e-12)
    assert (together["second"][:, :3, 1] == 0).all() and (together["second"][:, 3:, 0] == 0).all()


def test_tangent_kernel_and_complexity_equal_those_of_automatic_differentiation() -> None:
    group, data = make_group(MEMBERS), images(1)
    begin = double(digits.start(group, [0], 6, "cpu"))
    end = double(digits.start(group, [1], 6, "cpu"))
    for member, units in enumerate((slice(0, 3), slice(3, 8))):
        weights = [begin["first"][0, :, units].clone(), begin["second"][0, units, member].clone()]
        slopes = torch.func.jacrev(lambda a, b: torch.relu(data.x[0] @ a) @ b, argnums=(0, 1))(*weights)
        psi = [slope.flatten(1) for slope in slopes]
        kernel = sum(part @ part.T for part in psi) / 15
        found = digits.tangent_kernels(data.x[0], group, begin["first"][0], begin["second"][0])[member]
        torch.testing.assert_close(found, kernel)
        change = {name: (end[name] - begin[name])[0] for name in ("first", "second")}
        moved = [change["first"][:, units].norm(), change["second"][units].norm()]
        bound = sum(distance * part.square().sum(1).mean().sqrt() for distance, part in zip(moved, psi, strict=True))
        growth = digits.complexity(data.x, group, begin, begin, end)[0, member]
        assert growth.item() == pytest.approx(bound.item() / 15**0.5)


def test_the_noisy_error_is_the_mean_over_wrong_labels() -> None:
    group, data = make_group(MEMBERS), images(1)
    state = double(digits.start(group, [0], 6, "cpu"))
    reached, right = digits.outputs(data.test_x, state)[0], data.test_y
    expected = 0.8 * (reached - right).square().mean(0) + 0.2 * (reached + right).square().mean(0)
    torch.testing.assert_close(digits.measure(data, state, 0.2)["noisy_error"][0], expected)


def test_labels_are_flipped_in_the_wanted_share() -> None:
    arrays = {"train_images": torch.arange(100.0)[:, None], "train_targets": torch.ones(100),
              "test_images": torch.zeros(10, 1), "test_targets": torch.ones(10)}  # fmt: skip
    loaded = digits.load_images(arrays, [0, 1], row("digits", samples=40, wrong_labels=0.25, test_images=10), "cpu")
    assert (loaded.y < 0).sum(dim=(1, 2)).tolist() == [10, 10]
    assert len(loaded.x[0].unique()) == 40


def test_the_plain_network_of_the_benchmark_is_the_same_network() -> None:
    for case in bench.cases("cpu"):
        case.batched(1)
        case.single(1)
    group = digits.make_group([(4, 0.5)], "cpu")
    state, data = digits.start(group, [0], 6, "cpu"), images(1)
    data = digits.Images(*(getattr(data, name).float() for name in ("x", "y", "test_x", "test_y")))
    plain = [state["first"][0].clone(), state["second"][0, :, 0].clone(), [torch.zeros(()), torch.zeros(())]]
    rates = torch.full((1, 1, 4), bench.RATE), torch.full((1, 4, 1), bench.RATE)
    for _ in range(5):
        digits.descend(data, state, rates, bench.MOMENTUM)
        bench._plain_step(data.x[0], data.y[0, :, 0], *plain)
    torch.testing.assert_close(state["first"][0], plain[0])
    torch.testing.assert_close(state["second"][0, :, 0], plain[1])


# --- statistics


def test_the_peak_is_found_from_the_other_seeds() -> None:
    table = pd.DataFrame([[1.0, 0.0], [0.0, 10.0], [1.0, 0.0]], columns=[3, 5])
    assert claims.peaks_of_others(table).tolist() == [5, 3, 5]


def test_the_peak_place_covers_its_ties() -> None:
    rng = np.random.default_rng(0)
    sure = pd.DataFrame(rng.normal([0.0, 5.0, 1.0], 0.1, (20, 3)), columns=[0.5, 1.0, 2.0])
    estimate = claims._peak_place(sure, Interval(0.95))
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)
    torn = claims._peak_place(pd.DataFrame(rng.normal(0, 1, (20, 3)), columns=[0.5, 1.0, 2.0]), Interval(0.95))
    assert torn.low < torn.high


# --- bad input


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("linear", {"loads": [0.0, 0.25, 0.5, 1.0, 2.0]}, "greater than 0"),
        ("linear", {"loads": [-0.5, 0.25, 0.5, 1.0, 2.0]}, "greater than 0"),
        ("linear", {"loads": [0.33, 0.25, 0.5, 1.0, 2.0]}, "not a whole number of samples"),
        ("linear", {"loads": [0.5, 1.0]}, "loads lack"),
        ("linear", {"loads": [float("inf"), 0.25, 0.5, 1.0, 2.0]}, "finite"),
        ("linear", {"snr": 0.0}, "greater than 0"),
        ("linear", {"snr": 3.0}, "snrs lack"),
        ("linear", {"inrs": [-1.0, 0.0]}, "greater than or equal to 0"),
        ("linear", {"times": 50}, "400"),
        ("linear", {"descent": {"seeds": 1, "rate": 2.5, "steps": 100}}, "less than 2"),
        ("spectrum", {"loads": [1.0]}, "no gap"),
        ("features", {"widths": [5, 10, 20]}, "both sides"),
        ("features", {"widths": [5, 60, 30]}, "do not increase"),
        ("digits", {"wrong_labels": 0.5}, "less than 0.5"),
        ("digits", {"widths": [0, 3, 8]}, "greater than or equal to 1"),
    ],
)
def test_values_outside_the_domain_are_refused(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        row(name, **changes)


def test_one_digit_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="two different"):
        validate(DataSettings, {"digits": (4, 4), "pool": 4}, "test")


def test_measurements_include_both_ends() -> None:
    steps = digits.marks(row("digits"))
    assert steps[0] == 0 and steps[-1] == 100 and all(a < b for a, b in pairwise(steps))
