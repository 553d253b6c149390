"""One-hidden-layer ReLU networks on wrongly labelled digits, both layers trained by full-batch gradient descent.

A *member* is a (width, initial scale); all members of a seed share its training images, so that the hidden units of
several members lie side by side along one axis H and meet the images in one matrix product. The output weights are a
matrix (H, members) that is zero outside a member's own units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.high_dim_generalization.settings import Digits

NARROW = 48  # members up to this width share one group; each wider member fills a matrix product by itself

Member = tuple[int, float]  # width, initial scale
Rates = tuple[Tensor, Tensor]  # learning rates of the first (S, 1, H) and second (S, H, members), 0 outside of members


@dataclass(frozen=True)
class Images:
    """Training images x (S, P, d) with their possibly wrong labels y (S, P, 1), and test images (n, d) with (n, 1)."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Group:
    """Members that are trained side by side, and which of the H hidden units belong to which (H, members), 0 or 1."""

    members: tuple[Member, ...]
    owner: Tensor


def load_images(arrays: dict[str, Tensor], seeds: Sequence[int], settings: Digits, device: str) -> Images:
    """Draw every seed's training images and flip the same share of its labels."""
    x, y = [], []
    for seed in seeds:
        order = torch.randperm(len(arrays["train_images"]), generator=generator(seed, "images"))[: settings.samples]
        flipped = torch.randperm(settings.samples, generator=generator(seed, "wrong labels"))
        labels = arrays["train_targets"][order].clone()
        labels[flipped[: round(settings.wrong_labels * settings.samples)]] *= -1
        x.append(arrays["train_images"][order])
        y.append(labels[:, None])
    test = (arrays[f"test_{name}"][: settings.test_images] for name in ("images", "targets"))
    test_x, test_y = (tensor.to(device) for tensor in test)
    return Images(torch.stack(x).to(device), torch.stack(y).to(device), test_x, test_y[:, None])


def groups(settings: Digits, device: str) -> list[Group]:
    """Narrow members together, and each wider member by itself."""
    members = [(width, scale) for width in settings.widths for scale in settings.init_scales]
    narrow = [member for member in members if member[0] <= NARROW]
    alone = [[member] for member in members if member[0] > NARROW]
    return [make_group(part, device) for part in ([narrow] if narrow else []) + alone]


def make_group(members: Sequence[Member], device: str) -> Group:
    """The members side by side, in this order."""
    sizes = torch.tensor([width for width, _ in members])
    owner = torch.eye(len(members)).repeat_interleave(sizes, dim=0)
    return Group(tuple(members), owner.to(device))


def initial(seed: int, member: Member, inputs: int) -> tuple[Tensor, Tensor]:
    """Weights (d, width) of variance scale^2 2/d, and output weights (width,) of variance scale^2/width."""
    width, scale = member
    first = torch.randn(inputs, width, generator=generator(seed, "first layer", width))
    second = torch.randn(width, generator=generator(seed, "second layer", width))
    return first * (scale * (2 / inputs) ** 0.5), second * (scale * width**-0.5)


def start(group: Group, seeds: Sequence[int], inputs: int, device: str) -> dict[str, Tensor]:
    """Initial weights first (S, d, H) and second (S, H, members), with momenta of zero."""
    drawn = [[initial(seed, member, inputs) for member in group.members] for seed in seeds]
    first = torch.stack([torch.cat([one for one, _ in row], dim=1) for row in drawn]).to(device)
    second = torch.stack([torch.block_diag(*(two[:, None] for _, two in row)) for row in drawn]).to(device)
    pushes = {"first.push": torch.zeros_like(first), "second.push": torch.zeros_like(second)}
    return {"first": first, "second": second, **pushes}


def outputs(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """f(x) of all seeds and members, (S, n, members), for images (n, d) or (S, n, d)."""
    return (x @ state["first"]).clamp_min_(0) @ state["second"]


def gradients(x: Tensor, y: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Of half the mean squared error on x (P, d), y (P, 1), for one seed: (d, H), and (H, members) unmasked."""
    share = 1 / len(y)
    hidden = (x @ first).clamp_min_(0)
    residual = torch.addmm(y, hidden, second, beta=-share, alpha=share)
    back = residual @ second.T
    torch.ops.aten.threshold_backward.grad_input(back, hidden, 0, grad_input=back)
    return x.T @ back, (residual.T @ hidden).T  # products of this shape are several times faster this way round


def descend(images: Images, state: Mapping[str, Tensor], rates: Rates, momentum: float) -> None:
    """One heavy-ball step of every seed and member of a group, in place.

    Gradients are computed seed by seed: the activities of one seed fit a cache, those of all do not.
    """
    each = zip(images.x, images.y, state["first"], state["second"], strict=True)
    slopes = zip(*(gradients(*one) for one in each), strict=True)
    for name, slope, rate in zip(("first", "second"), slopes, rates, strict=True):
        push = state[f"{name}.push"].mul_(momentum).addcmul_(torch.stack(slope), rate, value=-1)
        state[name].add_(push)


def tangent_kernels(x: Tensor, group: Group, first: Tensor, second: Tensor) -> Tensor:
    """Neural tangent kernels over P, of one seed: (members, P, P)."""
    hidden = (x @ first).clamp_min_(0)
    alike, found = x @ x.T, []
    sizes = [width for width, _ in group.members]
    for features, weights in zip(hidden.split(sizes, dim=1), second.sum(dim=1).split(sizes), strict=True):
        gates = features.sign() * weights
        found.append((features @ features.T + (gates @ gates.T) * alike) / len(x))
    return torch.stack(found)


def learning_rates(images: Images, group: Group, state: Mapping[str, Tensor], rate: float) -> Rates:
    """`rate` over a bound on the largest curvature at the start.

    Near a small residual the curvature is the tangent kernel, whose largest eigenvalue its greatest row sum bounds. A
    narrow network may start with units that no image activates; its bound is at least what is expected of the hidden
    weights, scale^2/2 x x^T, half of the units being active.
    """
    squares = torch.tensor([scale**2 / 2 for _, scale in group.members], device=images.x.device)
    bounds = []
    for x, first, second in zip(images.x, state["first"], state["second"], strict=True):
        actual = _greatest_row_sum(tangent_kernels(x, group, first, second))
        bounds.append(torch.maximum(actual, squares * _greatest_row_sum(x @ x.T / len(x))))
    of_members = (rate / torch.stack(bounds))[:, None]
    return of_members @ group.owner.T, group.owner * of_members


def _greatest_row_sum(kernel: Tensor) -> Tensor:
    return kernel.abs().sum(dim=-1).amax(dim=-1)


def complexity(
    x: Tensor, group: Group, features: Mapping[str, Tensor], begin: Mapping[str, Tensor], end: Mapping[str, Tensor]
) -> Tensor:
    """Rademacher complexity of linearised networks within the distance that training has covered, (S, members).

    For f = theta . psi(x) with |theta - theta_0| <= D on each layer it is at most D sqrt(mean |psi|^2 / P), the
    distance times the norm of the features (Cauchy-Schwarz and Jensen); the layers add. psi is taken at the weights
    `features`: hidden activities for the output weights, and a_j 1[unit j is active] x for those of unit j.
    """
    hidden = (x @ features["first"]).clamp_min_(0)  # (S, P, H)
    gates = hidden.sign() * features["second"].sum(dim=2)[:, None]
    first = (x.square().sum(dim=2, keepdim=True) * gates.square() @ group.owner).mean(dim=1)
    second = (hidden.square() @ group.owner).mean(dim=1)
    moved = (end["first"] - begin["first"]).square().sum(dim=1) @ group.owner
    turned = (end["second"] - begin["second"]).square().sum(dim=1)
    return ((moved * first).sqrt() + (turned * second).sqrt()) / x.shape[1] ** 0.5


def marks(settings: Digits) -> list[int]:
    """Numbers of steps after which networks are measured: zero, and a logarithmic grid up to the last step."""
    points = settings.measurements - 1
    return sorted({0} | {round(settings.steps ** (k / (points - 1))) for k in range(points)})


def measure(images: Images, state: Mapping[str, Tensor], wrong_labels: float) -> dict[str, Tensor]:
    """Errors by name, each (S, members).

    noisy_error is the mean squared error on test images whose labels are wrong as often as those of training, averaged
    over which are wrong: (1 - p) (f - y)^2 + p (f + y)^2 = (f - y)^2 + 4 p f y.
    """
    reached = outputs(images.test_x, state)
    test = (reached - images.test_y).square().mean(dim=1)
    return {
        "test_error": test,
        "misread": (reached * images.test_y <= 0).to(test.dtype).mean(dim=1),
        "train_error": (outputs(images.x, state) - images.y).square().mean(dim=1),
        "noisy_error": test + 4 * wrong_labels * (reached * images.test_y).mean(dim=1),
    }


def train_digits(config: RunConfig, data: Folder, run: Run) -> None:
    """Train every group; log the errors along the way, and the complexity at the end."""
    settings: Digits = config.settings
    arrays = {name: torch.from_numpy(value) for name, value in data.arrays("digits.npz").items()}
    images = load_images(arrays, config.seeds, settings, config.device)
    for number, group in enumerate(groups(settings, config.device)):
        _train_group(config, run, images, group, f"group-{number}")


def _train_group(config: RunConfig, run: Run, images: Images, group: Group, phase: str) -> None:
    settings: Digits = config.settings
    state = start(group, config.seeds, images.x.shape[2], config.device)
    begin = {name: value.clone() for name, value in state.items()}
    rates = learning_rates(images, group, begin, settings.rate)
    labels = [(seed, width, scale) for seed in config.seeds for width, scale in group.members]
    keys = dict(zip(("seed", "width", "init_scale"), zip(*labels, strict=True), strict=True))
    measured = set(marks(settings))
    for step in run.steps(settings.steps + 1, cast(State, state), phase=phase):
        if step in measured:
            errors = measure(images, state, settings.wrong_labels)
            run.require_finite(step, errors["test_error"].flatten(), labels)
            run.log(kind="curve", step=step, **keys, **{name: value.flatten() for name, value in errors.items()})
        if step < settings.steps:
            descend(images, state, rates, settings.momentum)
        else:
            bounds = {
                name: complexity(images.x, group, at, begin, state).flatten()
                for name, at in (("complexity", state), ("complexity_start", begin))
            }
            run.log(kind="end", step=step, **keys, **bounds)
