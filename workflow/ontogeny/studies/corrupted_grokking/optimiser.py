"""AdamW in one pass over the memory, for ensembles with a weight decay per member."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ontogeny.studies.corrupted_grokking.settings import RunSettings


class FusedAdamW:
    """AdamW (Loshchilov & Hutter 2019) with torch's fused kernel.

    Weight decay is decoupled: w <- (1 - lr * decay) w before the step. The members can be advanced block by block, so
    that weights, gradient and moments are still in the cache when they are needed.
    """

    def __init__(
        self, params: Mapping[str, Tensor], settings: RunSettings, weight_decay: Tensor, blocks: int = 1
    ) -> None:
        """params: tensors (M, ...), updated in place. weight_decay: (M,). blocks: how many blocks the members form."""
        self.params = dict(params)
        self.settings = settings
        self.shrink = 1 - settings.learning_rate * weight_decay
        self.first = {name: torch.zeros_like(weights) for name, weights in self.params.items()}
        self.second = {name: torch.zeros_like(weights) for name, weights in self.params.items()}
        self.count = torch.zeros(blocks, len(self.params), device=weight_decay.device)

    def step(self, grads: Mapping[str, Tensor], members: slice = slice(None), block: int = 0) -> None:
        """Move the `members` that make up one `block` one step. grads: (members, ...) by name."""
        names, beta1, beta2 = list(self.params), *self.settings.betas
        weights = [self.params[name][members] for name in names]
        for tensor in weights:
            tensor.mul_(self.shrink[members].reshape(-1, *[1] * (tensor.dim() - 1)))
        adamw(
            weights, [grads[name] for name in names], [self.first[name][members] for name in names],
            [self.second[name][members] for name in names], [], list(self.count[block]), fused=True, amsgrad=False,
            beta1=beta1, beta2=beta2, lr=self.settings.learning_rate, weight_decay=0.0, eps=self.settings.eps,
            maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """All that a resumed training needs: parameters, both moments and the step counts."""
        moments = {f"{name}.first": value for name, value in self.first.items()}
        moments |= {f"{name}.second": value for name, value in self.second.items()}
        return {**self.params, **moments, "adam.count": self.count}
