"""Many networks trained as one tensor program.

Every tensor carries a leading *member* axis M (seeds x sweep points). Hyper-parameters are tensors of shape (M,), and a
boolean mask (M,) stops members one by one. A member's result does not depend on who its neighbours are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


def per_member(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    draw: Callable[..., Tensor] = torch.randn,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Tensor:
    """Stack one draw of `shape` from each member's own generator: (M, *shape)."""
    return torch.stack([draw(*shape, generator=stream, dtype=dtype) for stream in generators]).to(device)


class _Optimiser:
    """What the optimisers share: per-member rates, and masking of members that have stopped."""

    def __init__(self, params: Mapping[str, Tensor], lr: Tensor) -> None:
        """params: tensors (M, ...), updated in place. lr: (M,); may be changed between steps."""
        self.params = dict(params)
        self.lr = lr

    def _masked(self, gradient: Tensor, active: Tensor | None) -> Tensor:
        """Zero the gradient of members that have stopped (theirs may be NaN, so a product would not do)."""
        if active is None:
            return gradient
        return torch.where(_align(active, gradient), gradient, torch.zeros((), dtype=gradient.dtype))

    def _rate(self, active: Tensor | None) -> Tensor:
        return self.lr if active is None else self.lr * active


class SGD(_Optimiser):
    """Gradient descent with a learning rate per member."""

    def step(self, grads: Mapping[str, Tensor], active: Tensor | None = None) -> None:
        """Move every active member one step. grads: (M, ...) by name; active: bool (M,), None for all."""
        rate = self._rate(active)
        for name, weights in self.params.items():
            gradient = self._masked(grads[name], active)
            weights.sub_(gradient * _align(rate, gradient))

    def state(self) -> dict[str, Tensor]:
        """All that a resumed training needs: the parameters."""
        return dict(self.params)


class AdamW(_Optimiser):
    """Adam (Kingma & Ba 2015) with learning rate and weight decay per member.

    Weight decay is decoupled (Loshchilov & Hutter 2019): w <- (1 - lr * decay) w before the step. A member's
    trajectory equals that of torch.optim.AdamW with its hyper-parameters.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        lr: Tensor,
        weight_decay: Tensor | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr)
        self.weight_decay = weight_decay
        self.betas, self.eps = betas, eps
        self.count = torch.zeros((), dtype=torch.int64)
        self.first = {name: torch.zeros_like(weights) for name, weights in self.params.items()}
        self.second = {name: torch.zeros_like(weights) for name, weights in self.params.items()}

    def step(self, grads: Mapping[str, Tensor], active: Tensor | None = None) -> None:
        """Move every active member one step. grads: (M, ...) by name; active: bool (M,), None for all."""
        self.count += 1
        beta1, beta2 = self.betas
        rate, count = self._rate(active), int(self.count)
        scale = rate / (1 - beta1**count)
        for name, weights in self.params.items():
            gradient = self._masked(grads[name], active)
            first, second = self.first[name], self.second[name]
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            spread = second.sqrt().div_((1 - beta2**count) ** 0.5).add_(self.eps)
            if self.weight_decay is not None:
                weights.mul_(_align(1 - rate * self.weight_decay, weights))
            weights.sub_(torch.div(first, spread, out=spread).mul_(_align(scale, spread)))

    def state(self) -> dict[str, Tensor]:
        """All that a resumed training needs: parameters, both moments and the step count."""
        moments = {f"{name}.first": value for name, value in self.first.items()}
        moments |= {f"{name}.second": value for name, value in self.second.items()}
        return {**self.params, **moments, "adam.count": self.count}


def _align(values: Tensor, target: Tensor) -> Tensor:
    """Shape (M,) -> (M, 1, ..., 1), to broadcast against `target`."""
    return values.reshape(-1, *[1] * (target.dim() - 1))
