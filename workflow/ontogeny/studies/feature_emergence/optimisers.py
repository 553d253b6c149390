"""Adam with weight decay in the gradient, and Muon for the first layer, for stacked networks of one learning rate.

Weight decay is added to the gradient before it is normalised, as torch's Adam does and the authors' code with it; Muon
treats it in the same way, so that the two differ in the normalisation only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adam import adam

from ontogeny.studies.feature_emergence.settings import Optimiser

BETAS, EPS = (0.9, 0.999), 1e-8
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: singular values to about one in a few rounds
ROUNDS, MOMENTUM = 5, 0.95


class Adam:
    """Adam (Kingma & Ba 2015), in one pass over the memory."""

    def __init__(self, weights: Tensor, lr: float, weight_decay: Tensor) -> None:
        """weights: (r, ...), contiguous (the fused kernel ignores strides), updated in place. weight_decay: (r,)."""
        self.weights, self.lr = weights, lr
        self.decay = weight_decay.reshape(-1, *[1] * (weights.dim() - 1))
        self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)
        self.count = torch.zeros((), device=weights.device)

    def step(self, gradient: Tensor) -> None:
        """Move every network one step. gradient: (r, ...), contiguous; it is changed."""
        gradient.addcmul_(self.weights, self.decay)
        adam(
            [self.weights], [gradient], [self.first], [self.second], [], [self.count], fused=True, amsgrad=False,
            beta1=BETAS[0], beta2=BETAS[1], lr=self.lr, weight_decay=0.0, eps=EPS, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """All that a resumed training needs."""
        return {"weights": self.weights, "first": self.first, "second": self.second, "count": self.count}


class Muon:
    """Orthogonalised momentum for W (Jordan et al. 2024), Adam for V."""

    def __init__(self, weights: Tensor, lr: float, readout_lr: float, weight_decay: Tensor) -> None:
        """weights: (r, 3, M, K), updated in place. lr: of W. readout_lr: of V. weight_decay: (r,)."""
        self.weights, self.lr = weights, lr
        self.decay = weight_decay.reshape(-1, 1, 1, 1)
        self.momentum = torch.zeros_like(weights[:, :2])
        self.readout = Adam(weights[:, 2].clone(), readout_lr, weight_decay)

    def step(self, gradient: Tensor) -> None:
        """Move every network one step. gradient: (r, 3, M, K)."""
        layer = self.weights[:, :2]
        first = gradient[:, :2] + self.decay * layer
        self.momentum.mul_(MOMENTUM).add_(first)
        update = orthogonalised(first.add_(self.momentum, alpha=MOMENTUM).flatten(1, 2))
        layer.sub_(update.view_as(layer), alpha=self.lr)
        self.readout.step(gradient[:, 2].contiguous())
        self.weights[:, 2] = self.readout.weights

    def state(self) -> dict[str, Tensor]:
        """All that a resumed training needs."""
        adam_state = {f"readout.{name}": value for name, value in self.readout.state().items()}
        return {"weights": self.weights, "momentum": self.momentum, **adam_state}


def optimiser_of(settings: Optimiser, weights: Tensor, weight_decay: Tensor) -> Adam | Muon:
    """The optimiser of stacked networks. weights: (r, 3, M, K). weight_decay: (r,)."""
    if settings.readout_learning_rate is not None:
        return Muon(weights, settings.learning_rate, settings.readout_learning_rate, weight_decay)
    return Adam(weights, settings.learning_rate, weight_decay)


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices to (r, m, k), nearly: five rounds of Newton-Schulz move the singular values
    to between 0.7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(EPS)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
