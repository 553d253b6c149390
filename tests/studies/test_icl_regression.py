"""icl_regression: gradients, closed forms and members against what is known exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.studies.icl_regression import attention, circuits, reduced_loss, references
from ontogeny.studies.icl_regression.bench import PlainNetwork
from ontogeny.studies.icl_regression.claims import paired_tasks, superposing
from ontogeny.studies.icl_regression.prompts import Prompts, Sampler, covariance
from ontogeny.studies.icl_regression.settings import Attention, RunSettings, Task
from ontogeny.studies.icl_regression.snapshots import snapshot_steps
from ontogeny.studies.icl_regression.train import Ensemble, learning_rate
from ontogeny.study import plan

ONE = Task(dimension=5, correlation=0.0, supports=[[1, 2, 3, 4, 5]], noise=0.1)
TWO = Task(dimension=6, correlation=0.0, supports=[[1, 2, 3, 4], [3, 4, 5, 6]], noise=0.1)


def sets_of_prompts(task: Task, batch: int, length: int, seeds: tuple[int, ...]) -> Prompts:
    drawn = Sampler(task, length, "cpu").draw(batch, [generator(seed, "test") for seed in seeds])
    return Prompts(drawn.tokens.double(), drawn.query.double(), drawn.target.double())


def prompts(task: Task, batch: int, length: int = 40) -> Prompts:
    return sets_of_prompts(task, batch, length, (0,))[0]


def settings(**changes: object) -> Attention:
    row = plan("icl_regression", "smoke").runs["isotropic-s0-1"].settings
    return validate(RunSettings, {**row, **changes}, "test")


def brute_force(flat: torch.Tensor, shape: attention.Shape, batch: Prompts, heads: list[int], softmax: bool):
    """Losses (S, networks), straight from the definition of multi-head attention."""
    k, q, v, o = shape.unpack(flat)
    tokens = batch.tokens[:, :, None, : shape.token]
    query = torch.nn.functional.pad(batch.query, (0, shape.tasks))
    asked = torch.einsum("snij,sbj->sbni", q, query).unsqueeze(3)
    logits = asked @ (k.unsqueeze(1) @ tokens) / shape.token**0.5
    weights = logits.softmax(-1) if softmax else logits / tokens.shape[-1]
    added = (o.unsqueeze(1) @ (v.unsqueeze(1) @ tokens) @ weights.mT).squeeze(-1)
    output = torch.stack([part.sum(2) for part in added.split(heads, dim=2)], dim=2)
    return (output - batch.target.unsqueeze(2)).square().mean((1, 3))


@pytest.mark.parametrize("task", [ONE, TWO])
@pytest.mark.parametrize("softmax", [True, False])
def test_gradients_equal_those_of_automatic_differentiation(task: Task, softmax: bool) -> None:
    shape, heads, length = attention.Shape(task.dimension, len(task.supports)), [1, 2, 3], 7
    batch = sets_of_prompts(task, 11, length, (1, 2))
    drawn = [attention.initial_head(shape, 6, generator(seed, "test")).double() for seed in (1, 2)]
    flat = (2 * torch.stack(drawn)).requires_grad_()
    expected = brute_force(flat, shape, batch, heads, softmax)
    (slope,) = torch.autograd.grad(expected.sum(), flat)
    flat = flat.detach()
    member, kernel = attention.membership(heads).double(), attention.Kernel(softmax, length)
    kq, ov = attention.circuits(shape, flat)
    loss, d_kq, d_ov = attention.loss_gradient(kq, ov, batch, member, kernel, together=1)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(attention.parameter_gradient(shape, flat, d_kq, d_ov), slope)
    outputs = torch.einsum("snob,nk->sbko", attention.head_outputs(kq, ov, batch, kernel), member)
    torch.testing.assert_close((outputs - batch.target.unsqueeze(2)).square().mean((1, 3)), expected.detach())


def test_a_network_in_the_ensemble_is_the_network_alone() -> None:
    both = Ensemble(settings(), (3, 4), "cpu")
    alone = Ensemble(settings(heads=[3]), (4,), "cpu")
    for step in range(20):
        losses = both.step(step), alone.step(step)
    torch.testing.assert_close(both.parameters[1, 3:6], alone.parameters[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses[0][1, 2], losses[1][0, 0], rtol=1e-4, atol=1e-6)


def test_the_ensemble_trains_like_plain_adam() -> None:
    chosen = settings(heads=[2])
    ensemble, plain = Ensemble(chosen, (0,), "cpu"), PlainNetwork(chosen, 2, "cpu")
    for step in range(10):
        ensemble.step(step)
        plain.step(step)
    for ours, theirs in zip(ensemble.shape.unpack(ensemble.parameters[0]), plain.parameters, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-3, atol=1e-5)


def test_seeds_taken_together_give_what_they_give_one_by_one() -> None:
    apart, together = (Ensemble(settings(), (0, 1, 2), "cpu") for _ in range(2))
    apart.together, together.together = 1, 3
    torch.testing.assert_close(apart.step(0), together.step(0))
    torch.testing.assert_close(apart.parameters, together.parameters)


def test_prompts_have_the_moments_of_the_task() -> None:
    task = Task(dimension=3, correlation=0.5, supports=[[1, 2], [3]], noise=0.25)
    drawn = prompts(task, 20_000, 4)
    x, y = drawn.tokens[:, :3], drawn.tokens[:, 3:5]
    second = torch.einsum("bil,bjl->ij", x, x) / (20_000 * 4)
    torch.testing.assert_close(second, covariance(task), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.query.T @ drawn.query / 20_000, covariance(task), atol=0.04, rtol=0)
    # the entries of beta are independent, so that Var y_n is the mean of Sigma_ii over the support, plus noise
    torch.testing.assert_close(y.square().mean((0, 2)), torch.full((2,), 1.25).double(), atol=0.03, rtol=0)
    assert (drawn.tokens[:, 5] == 1).all()


def test_plain_gradient_descent_has_the_exact_risk() -> None:
    # 1 + s2 - 2 eta + eta^2 (1 + ((1 + s2) d + 1) / L), least at eta = 1 / (1 + ((1 + s2) d + 1) / L)
    drawn = prompts(ONE, 200_000)
    prediction = references.gradient_descent(drawn)
    spread = 1 + (1.1 * 5 + 1) / 40
    assert references.best_step(prediction, drawn.target) == pytest.approx(1 / spread, rel=0.01)
    risk = float((prediction / spread - drawn.target).square().mean())
    assert risk == pytest.approx(1.1 - 1 / spread, abs=0.004)


def test_ridge_equals_least_squares_with_the_penalty_as_extra_rows() -> None:
    drawn = prompts(ONE, 3, 8)
    x, y = drawn.tokens[:, :5].mT, drawn.tokens[:, 5]
    padded = torch.cat([x, (0.1 * 5) ** 0.5 * torch.eye(5).double().expand(3, 5, 5)], 1)
    labels = torch.cat([y, torch.zeros(3, 5).double()], 1)
    beta = torch.linalg.lstsq(padded, labels.unsqueeze(-1)).solution.squeeze(-1)
    torch.testing.assert_close(references.ridge(drawn, 0.1)[:, 0], (beta * drawn.query).sum(-1))


def test_a_pair_of_small_opposite_heads_is_debiased_gradient_descent() -> None:
    drawn, omega = prompts(ONE, 500), 1e-3
    pair = references.smoother(drawn, [omega, -omega], [0.5 / omega, -0.5 / omega])
    expected = references.debiased_gradient_descent(drawn)
    assert float(references.distance(pair[:, 0], expected[:, 0])) < 1e-4


def test_heads_with_ideal_circuits_are_smoothers() -> None:
    drawn, omega, mu = prompts(ONE, 50), [0.3, -0.2], [1.5, -2.0]
    kq = torch.zeros(1, 2, 6, 5).double()
    kq[0, :, :5] = torch.tensor(omega).double()[:, None, None] * torch.eye(5).double()
    ov = torch.zeros(1, 2, 1, 6).double()
    ov[0, :, 0, 5] = torch.tensor(mu)
    ours = attention.head_outputs(kq, ov, drawn, attention.Kernel(True)).sum(1)[0, 0]
    torch.testing.assert_close(ours, references.smoother(drawn, omega, mu)[:, 0])
    torch.testing.assert_close(circuits.scale(kq)[0], torch.tensor(omega).double())
    torch.testing.assert_close(circuits.diagonal_share(kq)[0], torch.ones(2).double())
    torch.testing.assert_close(circuits.label_share(ov)[0], torch.ones(2).double())


def test_the_gradient_of_the_reduced_loss() -> None:
    stream = generator(0, "test")
    omega, mu = (torch.randn(4, 3, generator=stream, dtype=torch.float64).mul_(0.4).requires_grad_() for _ in range(2))
    constants = (5, 0.1, 40)
    expected = torch.autograd.grad(reduced_loss.loss(omega, mu, *constants).sum(), (omega, mu))
    for ours, theirs in zip(reduced_loss.gradient(omega.detach(), mu.detach(), *constants), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_mu_gamma_minimises_the_reduced_loss_of_a_pair() -> None:
    gamma = 0.2
    mu = np.linspace(1.5, 3.5, 2001)
    omegas = torch.tensor([gamma, -gamma], dtype=torch.float64).expand(len(mu), 2)
    mus = torch.tensor(np.stack([mu, -mu], 1))
    best = mu[int(reduced_loss.loss(omegas, mus, 5, 0.1, 40).argmin())]
    assert best == pytest.approx(float(reduced_loss.manifold(np.array(gamma), 5, 0.1, 40)), abs=0.002)


def test_the_best_single_head_is_a_stationary_point_of_the_reduced_loss() -> None:
    omega = torch.tensor([[5**-0.5]], dtype=torch.float64)
    mu = torch.tensor([[5**0.5 / (1 + 1.1 * 5 / 40 * np.e)]], dtype=torch.float64)
    for slope in reduced_loss.gradient(omega, mu, 5, 0.1, 40):
        assert float(slope.abs().max()) < 1e-12
    assert float(reduced_loss.loss(omega, mu, 5, 0.1, 40)) == pytest.approx(0.3721, abs=1e-3)


def test_the_type_of_a_network_and_its_homogeneity() -> None:
    mu = torch.tensor([[2.0, -1.9, 0.05], [2.0, -0.05, 1.0], [1.0, -1.0, 2.0]])
    assert circuits.is_split(mu).tolist() == [True, False, True]
    assert circuits.active(mu).tolist() == [[True, True, False], [True, False, True], [True, True, True]]
    size = torch.tensor([[0.2, 0.2, 9.0]])
    assert float(circuits.weighted_variation(size, mu[:1])) == pytest.approx(0, abs=1e-6)
    assert float(circuits.weighted_mean(size, mu[:1])) == pytest.approx(0.2)


def test_cosines_ignore_sign_and_size() -> None:
    inverse = torch.linalg.inv(covariance(Task(dimension=5, correlation=0.5, supports=[[1]], noise=0.1))).float()
    kq = torch.cat([-3 * inverse, torch.ones(1, 5)])
    assert float(circuits.cosine(kq, inverse)) == pytest.approx(1)
    assert float(circuits.cosine(kq, torch.eye(5))) < 0.95


def test_roles_of_heads() -> None:
    columns = ["heads", "seed", "mu_1", "mu_2"]
    three = [[3, 0, 2.0, 0.1], [3, 0, -2.0, 2.0], [3, 0, 0.0, -2.0], [3, 1, 2.0, 2.0], [3, 1, -2.0, -2.0], [3, 1, 0, 0]]
    four = [[4, 0, 2.0, 0.1], [4, 0, -2.0, 0.0], [4, 0, 0.0, 1.5], [4, 0, 0.2, -1.5]]
    heads = pd.DataFrame(three + four, columns=columns)
    assert superposing(heads).to_dict() == {(3, 0): True, (3, 1): False, (4, 0): False}
    assert paired_tasks(heads).to_dict() == {0: True}


def test_schedules() -> None:
    chosen = settings(steps=100, decay_from=60, learning_rate=0.01, final_rate=0.1)
    assert learning_rate(chosen, 60) == 0.01
    assert learning_rate(chosen, 99) == pytest.approx(0.001)
    assert learning_rate(settings(steps=100, decay_from=100), 99) == settings().learning_rate
    kept = snapshot_steps(1000, 10)
    assert kept[0] == 0
    assert kept[-1] == 1000
    assert sum(step >= 900 for step in kept) >= 20
