"""deep_linear: the study's mathematics against closed forms, brute force and finite differences."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.integrate import solve_ivp

from ontogeny.run import Run, RunConfig
from ontogeny.settings import validate
from ontogeny.studies.deep_linear import deep, probe, spectra, starts, tasks, theory, tree
from ontogeny.studies.deep_linear.bench import cases
from ontogeny.studies.deep_linear.data import block_sums
from ontogeny.studies.deep_linear.settings import DataSettings, Greedy, RunSettings, Tree

SETTINGS = Tree(
    experiment="tree", networks=["linear"], items=8, features=40, flip_probability=0.1, hidden=8,
    initial_strengths=[1e-6], learning_rates=[2e-3], iterations=600, measure_every=5, listed_modes=[1, 2],
)  # fmt: skip


def a_run(tmp_path, name="run", save_seconds=10.0):
    config = RunConfig("deep_linear", "smoke", name, "row", SETTINGS, (0, 1), "cpu")
    return Run(config, tmp_path / name, "same", save_seconds)


def a_task(outputs=3, inputs=6, covariance=False):
    stream = torch.Generator().manual_seed(1)
    optimum = torch.randn(outputs, inputs, generator=stream, dtype=torch.float64)
    optimum /= torch.linalg.matrix_norm(optimum, ord=2)
    mixed = torch.randn(inputs, inputs, generator=stream, dtype=torch.float64)
    return tasks.Task(optimum, mixed @ mixed.T / inputs if covariance else None)


# ---- closed forms ----------------------------------------------------------------------------------------------------


def test_the_sigmoid_solves_its_differential_equation():
    s, u0, rate = 3.0, 1e-3, 0.01
    solution = solve_ivp(lambda t, u: 2 * rate * u * (s - u), (0, 300), [u0], rtol=1e-10, atol=1e-12, dense_output=True)
    time = np.linspace(0, 300, 50)
    np.testing.assert_allclose(solution.sol(time)[0], theory.sigmoid_strength(time, s, u0, rate), rtol=1e-6)


def test_passage_times_invert_the_sigmoid():
    for share in (0.1, 0.5, 0.9):
        time = theory.passage_time(share, 3.0, 1e-3, 0.01)
        np.testing.assert_allclose(theory.sigmoid_strength(time, 3.0, 1e-3, 0.01), share * 3.0)
    t10, t90 = (theory.passage_time(share, 3.0, 1e-3, 0.01) for share in (0.1, 0.9))
    np.testing.assert_allclose((t90 - t10) / t90, theory.transition_share(3.0, 1e-3))


@pytest.mark.parametrize("matrices", [2, 5, 40])
def test_the_deep_learning_time_is_that_of_the_differential_equation(matrices):
    s, u0, rate, threshold = np.array([1.0, 0.6]), 1e-2, 0.003, 0.02

    def flow(_, u):
        return rate * matrices * u ** (2 - 2 / matrices) * (s - u)

    def learned(_, u):
        return ((s - u) ** 2).sum() - threshold * (s**2).sum()

    learned.terminal = True
    solution = solve_ivp(flow, (0, 1e6), [u0, u0], events=learned, rtol=1e-9, atol=1e-12)
    time = theory.deep_learning_time(s, u0, matrices, rate, threshold)
    assert time == pytest.approx(solution.t_events[0][0], rel=1e-3)


def test_two_matrices_learn_as_the_sigmoid_says():
    time = theory.deep_learning_time(2.0, 1e-4, 2, 0.01, 0.25)  # (s - u)^2 = s^2/4 at half strength
    assert time == pytest.approx(float(theory.passage_time(0.5, 2.0, 1e-4, 0.01)), rel=1e-4)


def test_competition_costs_what_is_lost_of_a_random_vector():
    draws = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left = draws[:, 5:].square().sum(dim=1).div(8).log().mean()  # rank 6 of 8: three directions are left
    expected = theory.competition_delay(6, 8, 1.0, 1e-4) * np.log(1e4 - 1)
    assert -float(left) == pytest.approx(float(expected), abs=0.01)


def test_the_bin_shares_are_those_of_the_paper():
    np.testing.assert_allclose(theory.product_bin_share([5, 99], spectra.HALF_BIN), [0.32, 0.94], atol=0.01)


# ---- tree networks ---------------------------------------------------------------------------------------------------


def test_tree_features_flip_as_often_as_the_branches_say():
    features = tree.hierarchical_features(0, 32, 20_000, 0.1)
    assert features.shape == (20_000, 32)
    overlap = features.T @ features / 20_000
    assert overlap[0, 1].item() == pytest.approx(0.8**2, abs=0.03)  # siblings are two branches apart
    assert overlap[0, 31].item() == pytest.approx(0.8**10, abs=0.03)


@pytest.mark.parametrize("network", ["linear", "tanh"])
def test_reduced_outputs_follow_the_same_trajectory(network):
    trained = {}
    for reduced in (True, False):
        problem = tree.stack_problems([(1e-2, 2e-3, 0), (1e-2, 2e-3, 1)], SETTINGS, reduced, "cpu")
        first, second = problem.first.clone(), problem.second.clone()
        rates = torch.full((2, 1, 1), 2e-3, dtype=torch.float64)
        for _ in range(300):
            tree.descend(problem.targets, first, second, rates, network)
        trained[reduced] = first, tree.mode_strengths(tree.response(first, second, network), problem)
    torch.testing.assert_close(trained[True], trained[False], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("network", ["linear", "tanh", "tanh_output"])
def test_steps_follow_the_gradient(network):
    problem = tree.stack_problems([(0.5, 1.0, 3)], SETTINGS, False, "cpu")
    first, second = (tensor.clone().requires_grad_() for tensor in (problem.first, problem.second))
    loss = (problem.targets - tree.response(first, second, network)).square().sum() / 2
    slopes = torch.autograd.grad(loss, (first, second))
    moved = problem.first.clone(), problem.second.clone()
    tree.descend(problem.targets, *moved, torch.full((1, 1, 1), 1e-3, dtype=torch.float64), network)
    for before, after, slope in zip((first, second), moved, slopes, strict=True):
        torch.testing.assert_close(after, before.detach() - 1e-3 * slope)


def test_a_decoupled_tree_network_follows_the_sigmoid(tmp_path):
    problem = tree.stack_problems([(1e-6, 1e-4, 0)], SETTINGS, False, "cpu")
    u0, rate = 1e-2, torch.full((1, 1, 1), 1e-4, dtype=torch.float64)
    first, second = u0**0.5 * problem.right.clone(), u0**0.5 * problem.left.clone()
    for _ in range(1000):
        tree.descend(problem.targets, first, second, rate, "linear")
    u = tree.mode_strengths(tree.response(first, second, "linear"), problem)[0].numpy()
    expected = theory.sigmoid_strength(1000, problem.strengths[0].numpy(), u0, 1e-4)
    np.testing.assert_allclose(u, expected, rtol=5e-3)


def test_the_stopwatch_times_passages_and_fit():
    problem = tree.stack_problems([(1e-3, 2e-3, 0)], SETTINGS, True, "cpu")
    watch = tree.Stopwatch(problem, torch.tensor([1e-3]).double(), torch.tensor([2e-3]).double())
    for step in range(0, 1001, 5):
        watch.measure(step, watch.analytic(step), 5)
    s = problem.strengths[0].numpy()
    for row, share in enumerate(tree.PASSAGES):
        np.testing.assert_allclose(watch.passages[row, 0].numpy(), theory.passage_time(share, s, 1e-3, 2e-3), atol=0.6)
    torch.testing.assert_close(watch.determination(), torch.ones_like(watch.last))


def test_undercomplete_networks_reach_the_truncated_svd():
    settings = SETTINGS.model_copy(update={"hidden": 2})
    problem = tree.stack_problems([(1e-4, 1e-3, 0)], settings, True, "cpu")
    first, second = problem.first.clone(), problem.second.clone()
    for _ in range(8000):
        tree.descend(problem.targets, first, second, torch.full((1, 1, 1), 1e-3, dtype=torch.float64), "linear")
    left, s, right = torch.linalg.svd(tree.hierarchical_features(0, 8, 40, 0.1), full_matrices=False)
    best = left[:, :2] * s[:2] @ right[:2]
    output = tree.response(first, second, "linear")
    assert tree.distance_to_best(output, problem, 2).item() < 1e-3
    torch.testing.assert_close(torch.linalg.svdvals(output[0])[:2], torch.linalg.svdvals(best)[:2], rtol=1e-3, atol=0)
    assert tree.invariant_drift(problem, first, second).item() < 1e-4


def test_a_member_does_not_depend_on_its_neighbours():
    rates = torch.full((3, 1, 1), 2e-3, dtype=torch.float64)
    ends = []
    for seeds in ((0, 1, 2), (1,)):
        problem = tree.stack_problems([(1e-3, 2e-3, seed) for seed in seeds], SETTINGS, True, "cpu")
        first, second = problem.first.clone(), problem.second.clone()
        for _ in range(200):
            tree.descend(problem.targets, first, second, rates[: len(seeds)], "tanh")
        ends.append(first[seeds.index(1)])
    assert torch.equal(*ends)


# ---- deep networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", [False, True])
def test_deep_steps_follow_the_gradient(covariance):
    task = a_task(covariance=covariance)
    weights = [w.requires_grad_() for w in starts.gaussian([6, 5, 7, 3], 0)]
    total = weights[2] @ weights[1] @ weights[0]
    deviation = task.optimum - total
    loss = torch.trace(deviation @ (task.covariance if covariance else torch.eye(6).double()) @ deviation.T) / 2
    slopes = torch.autograd.grad(loss, weights)
    members = deep.Members([task], [[w.detach() for w in weights]], torch.tensor([[1e-2]]).double(), "cpu")
    suffixes = deep.suffix_products(members.weights)
    error, excess = members.errors(suffixes)
    silent = torch.trace(task.optimum @ (task.covariance if covariance else torch.eye(6).double()) @ task.optimum.T)
    assert excess.item() == pytest.approx(2 * loss.item() / silent.item(), rel=1e-5)
    members.step(suffixes, error)
    for before, after, slope in zip(weights, members.weights, slopes, strict=True):
        torch.testing.assert_close(after[0].double(), before.detach() - 1e-2 * slope, rtol=1e-4, atol=1e-6)


def test_decoupled_weights_follow_the_scalar_recursion():
    task, n, u0, rate = a_task(), 6, 0.05, 0.05
    weights = starts.decoupled(task, [6, 8, 8, 8, 8, 8, 3], 0, u0)
    assert len(weights) == n
    scalars = np.full(len(task.strengths), u0 ** (1 / n))
    batch = [w[None].clone() for w in weights]
    for _ in range(80):
        suffixes = deep.suffix_products(batch)
        deep.descend(batch, suffixes, rate * (task.optimum - suffixes[0]))
        scalars += rate * scalars ** (n - 1) * (task.strengths.numpy() - scalars**n)
    np.testing.assert_allclose(
        torch.linalg.svdvals(deep.suffix_products(batch)[0][0]).numpy(), np.sort(scalars**n)[::-1]
    )


def test_the_race_finds_the_fastest_rate_that_learns(tmp_path):
    task, rates = a_task(), torch.tensor([[0.02, 0.1, 0.3, 30.0]]).double()
    weights = starts.orthogonal([6, 6, 6, 3], 0)
    criterion = deep.Criterion(threshold=0.05, hold=10, iterations=500)
    times = deep.race(a_run(tmp_path), "race", deep.Members([task], [weights], rates, "cpu"), criterion)[0]
    alone = []
    for rate in rates[0]:
        batch = [w[None].clone() for w in weights]
        errors = []
        for _ in range(400):
            suffixes = deep.suffix_products(batch)
            errors.append((task.optimum - suffixes[0]).square().sum().item() / task.optimum.square().sum().item())
            deep.descend(batch, suffixes, rate * (task.optimum - suffixes[0]))
        alone.append(next((i for i, e in enumerate(errors) if e < 0.05), np.inf) if errors[-1] < 0.05 else np.inf)
    best = int(np.argmin(alone))
    assert int(times.argmin()) == best
    assert alone[best] - 1 <= times[best].item() <= alone[best]
    assert torch.isinf(times[3])


def test_the_last_rate_is_trained_until_it_has_learned(tmp_path):
    rates = torch.tensor([[0.3, 0.1, 0.02]]).double()
    members = deep.Members([a_task()], [starts.orthogonal([6, 6, 3], 0)], rates, "cpu")
    times = deep.race(a_run(tmp_path), "race", members, deep.Criterion(0.05, 10, 2000), last_rate=2)[0]
    assert torch.isfinite(times[0])
    assert torch.isfinite(times[2])
    assert times[2] > times[0] + 10


def test_an_interrupted_race_ends_the_same(tmp_path):
    rates = torch.tensor([[0.01, 0.02, 0.04, 40.0]] * 2).double()
    weights = [starts.orthogonal([6, 6, 6, 3], seed) for seed in (0, 1)]
    criterion = deep.Criterion(0.01, 10, 3000)

    def members():
        return deep.Members([a_task(), a_task()], weights, rates, "cpu")

    whole = deep.race(a_run(tmp_path), "race", members(), criterion)

    class Killed(Exception):
        pass

    def kill(step, excess, remaining):
        if step == 60:
            raise Killed

    with pytest.raises(Killed):
        deep.race(a_run(tmp_path, "cut", 0.0), "race", members(), criterion, watch=kill)
    assert torch.equal(whole, deep.race(a_run(tmp_path, "cut", 0.0), "race", members(), criterion))


def test_orthogonal_starts_keep_norms():
    product = torch.eye(6, dtype=torch.float64)
    for matrix in starts.orthogonal([6, 6, 9, 9], 0):
        product = matrix @ product
    torch.testing.assert_close(torch.linalg.svdvals(product), torch.ones(6, dtype=torch.float64))


def test_pretraining_on_white_inputs_gives_orthogonal_layers(tmp_path):
    greedy = Greedy(start_sd=1e-3, rate=0.5, tolerance=1e-6, iterations=5000)
    white = torch.eye(6, dtype=torch.float64).repeat(2, 1, 1)
    stack, spent = starts.pretrained(a_run(tmp_path), "greedy", white, [6, 6, 6], (0, 1), greedy)
    assert (spent > 0).all()
    for matrix in stack:
        torch.testing.assert_close(
            torch.linalg.svdvals(matrix), torch.ones(2, 6, dtype=torch.float64), rtol=0.01, atol=0
        )


def test_pretraining_finds_the_principal_components(tmp_path):
    covariance = torch.diag(torch.tensor([1.0, 0.6, 0.01, 0.005], dtype=torch.float64))[None]
    greedy = Greedy(start_sd=1e-3, rate=0.5, tolerance=1e-4, iterations=5000)
    (first,), _ = starts.pretrained(a_run(tmp_path), "greedy", covariance, [4, 2], (0,), greedy)
    gram = first[0].T @ first[0]
    torch.testing.assert_close(torch.diagonal(gram)[:2], torch.ones(2, dtype=torch.float64), rtol=0.05, atol=0)
    assert gram[2:, 2:].abs().max() < 0.01


# ---- tasks, spectra, tables ------------------------------------------------------------------------------------------


def some_blocks():
    draws = np.random.default_rng(0)
    labels = draws.integers(10, size=2000)
    x = draws.standard_normal((2000, 12)) @ np.diag(np.linspace(2, 0.2, 12)) + 0.3 * np.eye(10, 12)[labels] + 1.0
    return x, np.eye(10)[labels], block_sums(x, np.eye(10)[labels], 100) | {"count": np.asarray(100)}


def test_moments_are_those_of_the_chosen_images():
    x, y, blocks = some_blocks()
    covariance, cross = tasks.moments(blocks, 3, 12)
    chosen = torch.randperm(20, generator=tasks.generator(3, "images"))[:10].numpy()
    rows = (chosen[:, None] * 100 + np.arange(100)).ravel()
    centred = x[rows] - x[rows].mean(axis=0)
    np.testing.assert_allclose(covariance.numpy(), centred.T @ centred)
    np.testing.assert_allclose(cross.numpy(), (y[rows] - y[rows].mean(axis=0)).T @ centred, atol=1e-9)


def test_tasks_have_their_units_and_solve_the_regression():
    _, _, blocks = some_blocks()
    _, cross = tasks.moments(blocks, 0, 12)
    white = tasks.whitened_task(blocks, 0, 12)
    assert white.strengths[0].item() == pytest.approx(1)
    assert len(white.strengths) == 9  # centred one-hot targets lose a mode
    for mismatched in (False, True):
        task = tasks.correlated_task(blocks, 0, 12, mismatched)
        assert torch.linalg.eigvalsh(task.covariance)[-1].item() == pytest.approx(1)
        assert torch.trace(task.optimum @ task.covariance @ task.optimum.T).item() == pytest.approx(1)
        s = torch.linalg.svdvals(task.optimum @ task.covariance)
        torch.testing.assert_close(s / s[0], torch.linalg.svdvals(cross) / torch.linalg.svdvals(cross)[0])


def test_the_jacobian_is_that_of_autograd():
    factors = spectra.orthogonal_factors((0, 1), 0, 5).float()
    gains = torch.tensor([[0.9], [1.1]])
    x = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0))
    identity = torch.eye(5).repeat(2, 2, 1, 1)
    _, one = spectra.propagate(factors, gains, x, identity)
    expected = torch.autograd.functional.jacobian(lambda v: 1.1 * factors[1] @ torch.tanh(v), x[1, 1])
    torch.testing.assert_close(one[1, 1], expected)
    y, two = spectra.propagate(factors, gains, *spectra.propagate(factors, gains, x, identity))
    torch.testing.assert_close(y[1, 1], 1.1 * factors[1] @ torch.tanh(1.1 * factors[1] @ torch.tanh(x[1, 1])))
    expected = torch.autograd.functional.jacobian(
        lambda v: 1.1 * factors[1] @ torch.tanh(1.1 * factors[1] @ torch.tanh(v)), x[1, 1]
    )
    torch.testing.assert_close(two[1, 1], expected)


def test_spectra_are_summarised():
    marks = spectra.summary(torch.arange(101.0)[None])
    assert [marks[name].item() for name in ("q10", "q50", "q90")] == pytest.approx([10, 50, 90])
    assert marks["kurtosis"].item() == pytest.approx(-1.2, abs=0.01)  # that of a uniform distribution
    values = torch.tensor([[0.01 + 0.04j, 0.06 + 0j, -0.04 - 0.049j, 0.0 - 0.2j]])
    assert spectra.origin_share(values).item() == 0.5


def test_alignment_is_least_in_the_eigenbasis():
    table = probe.alignment(np.diag([3.0, 2.0, 1.0]))
    values = table.set_index("basis")["off_diagonality"]
    assert values["singular vectors"] == 0
    assert (values["random rotation"] > 0).all()


def test_the_fastest_rate_is_found_and_edges_are_flagged():
    scan = probe.pd.DataFrame({
        "start": "gaussian", "layers": 3, "seed": [0] * 4 + [1] * 4 + [2] * 4, "rate_number": [0, 1, 2, 3] * 3,
        "rate": [1.0, 2.0, 4.0, 2.0] * 3, "multiple": [0.5, 1.0, 2.0, 1.0] * 3,
        "time": [9, 5, 7, 5, 9, 8, 3, 8, np.inf, np.inf, np.inf, np.inf],
    })  # fmt: skip
    best = probe.fastest(scan, probe.DEPTH_KEYS, probe.pd.Series(100, index=scan.index))
    assert best["time"].tolist() == [5, 3, 100]
    assert best["at_edge"].tolist() == [False, True, False]
    assert best["censored"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("key", "value"), [("items", 12), ("features", 8), ("flip_probability", 0.6), ("learning_rates", [])]
)
def test_settings_refuse_what_the_theory_does_not_cover(key, value):
    with pytest.raises(Exception, match=key):
        validate(RunSettings, SETTINGS.model_dump() | {"items": 16, key: value}, "study.yaml")


def test_data_settings_want_whole_blocks():
    with pytest.raises(ValidationError, match="multiple"):
        DataSettings(images=1500, images_per_block=1000, components=10)


def test_bench_cases_run():
    for case in cases("cpu"):
        case.batched(2)
        case.single(2)
        assert case.flops_per_member_step > 0
