"""Ensembles: a member's result is that of training it alone, and that of torch's own optimisers."""

import pytest
import torch

from ontogeny.ensemble import SGD, AdamW, per_member
from ontogeny.randomness import generator, numpy_generator, stream_seed

MEMBERS, SHAPE, STEPS = 5, (4, 3), 30
RATES = torch.tensor([0.1, 0.01, 0.05, 0.2, 0.003], dtype=torch.float64)
DECAYS = torch.tensor([0.0, 5.0, 0.1, 1.0, 0.5], dtype=torch.float64)


def start() -> torch.Tensor:
    return per_member([generator(seed, "init") for seed in range(MEMBERS)], SHAPE, dtype=torch.float64)


def gradient(weights: torch.Tensor) -> torch.Tensor:
    """Of sum(cos w) + |w|^2 / 2, elementwise, so that members cannot touch each other."""
    return weights - torch.sin(weights)


def run_adamw(weights: torch.Tensor, rates: torch.Tensor, decays: torch.Tensor) -> torch.Tensor:
    optimiser = AdamW({"w": weights}, rates, decays)
    for _ in range(STEPS):
        optimiser.step({"w": gradient(weights)})
    return weights


def test_adamw_members_equal_torch_adamw_one_by_one():
    together = run_adamw(start(), RATES, DECAYS)
    for member in range(MEMBERS):
        alone = start()[member].requires_grad_()
        reference = torch.optim.AdamW([alone], lr=float(RATES[member]), weight_decay=float(DECAYS[member]))
        for _ in range(STEPS):
            alone.grad = gradient(alone.detach())
            reference.step()
        torch.testing.assert_close(together[member], alone.detach(), rtol=1e-12, atol=1e-12)


def test_sgd_members_equal_torch_sgd_one_by_one():
    together = start()
    optimiser = SGD({"w": together}, RATES)
    for _ in range(STEPS):
        optimiser.step({"w": gradient(together)})
    for member in range(MEMBERS):
        alone = start()[member].requires_grad_()
        reference = torch.optim.SGD([alone], lr=float(RATES[member]))
        for _ in range(STEPS):
            alone.grad = gradient(alone.detach())
            reference.step()
        torch.testing.assert_close(together[member], alone.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("member", range(MEMBERS))
def test_a_member_alone_is_the_member_in_company(member):
    together = run_adamw(start(), RATES, DECAYS)
    one = slice(member, member + 1)
    alone = run_adamw(start()[one], RATES[one], DECAYS[one])
    torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("optimiser", [SGD, AdamW])
def test_a_stopped_member_stays_even_when_its_gradient_is_nan(optimiser):
    weights, before = start(), start()
    active = torch.tensor([True, False, True, True, False])
    stepper = optimiser({"w": weights}, RATES)
    broken = gradient(weights)
    broken[~active] = torch.nan
    stepper.step({"w": broken}, active)
    torch.testing.assert_close(weights[~active], before[~active], rtol=0, atol=0)
    assert torch.isfinite(weights).all()
    assert (weights[active] != before[active]).any()


def test_the_state_of_adamw_restores_its_trajectory():
    whole = run_adamw(start(), RATES, DECAYS)
    weights = start()
    first = AdamW({"w": weights}, RATES, DECAYS)
    for _ in range(10):
        first.step({"w": gradient(weights)})
    saved = {name: value.clone() for name, value in first.state().items()}
    again = torch.zeros_like(weights)
    second = AdamW({"w": again}, RATES, DECAYS)
    for name, value in second.state().items():
        value.copy_(saved[name])
    for _ in range(STEPS - 10):
        second.step({"w": gradient(again)})
    torch.testing.assert_close(again, whole, rtol=0, atol=0)


def test_streams_depend_on_every_part_of_their_key_and_on_nothing_else():
    keys = [(0, "init"), (1, "init"), (0, "order"), (0, "init", 1), (0, "init", "1")]
    assert len({stream_seed(*key) for key in keys}) == len(keys)
    torch.manual_seed(7)
    first = torch.randn(3, generator=generator(3, "noise"))
    torch.manual_seed(8)
    torch.testing.assert_close(torch.randn(3, generator=generator(3, "noise")), first, rtol=0, atol=0)
    assert numpy_generator(3, "noise").random() == numpy_generator(3, "noise").random()
