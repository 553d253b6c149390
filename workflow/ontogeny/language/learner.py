"""One interface to language models that learn: a stack of small ones from scratch, or a pretrained one of transformers.

Token arrays carry the member axis M, which is 1 for a pretrained model. Losses and log-probabilities are in nats, of
each token given those before it; the first token of a sequence has none. Sequences that are shorter than others are
filled up on the right, and what stands there is ignored through `weights`: a causal model's earlier tokens do not see
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ontogeny.ensemble import AdamW
from ontogeny.language import llama
from ontogeny.language.llama import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Adam:
    """Hyper-parameters of AdamW; the learning rate comes with each step."""

    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    eps: float = 1e-8
    clip: float | None = 1.0  # largest norm of a member's gradient; None for no limit


class Learner(Protocol):
    """A language model, or a stack of them, that can be trained a step and asked for log-probabilities."""

    members: int
    device: str

    def learn(self, tokens: Tensor, lr: float, weights: Tensor | None = None) -> Tensor:
        """One step of AdamW on tokens (M, B, T); returns the mean losses before it, (M,).

        weights: (M, B, T - 1), how much the prediction of each next token counts; None for all alike.
        """

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """Log-probability of each next token, (M, N, T - 1). tokens: (N, T) for all members, or (M, N, T)."""

    def state(self) -> dict[str, Tensor]:
        """All that a resumed training needs, live: weights and the optimiser's moments."""


class Stack:
    """Small Llamas trained from scratch, as one tensor program."""

    def __init__(self, architecture: Architecture, networks: Tensor, adam: Adam, device: str = "cpu") -> None:
        """networks: (M, P), initial weights."""
        self.architecture, self.device, self.members = architecture, device, len(networks)
        self.networks = networks.clone().to(device)
        self.weights = {name: view.detach() for name, view in architecture.unpack(self.networks).items()}
        self.adam = adam
        decay = torch.full((self.members,), adam.weight_decay, device=device)
        rate = torch.zeros(self.members, device=device)
        self.optimiser = AdamW({"networks": self.networks}, rate, decay, adam.betas, adam.eps)

    def learn(
        self, tokens: Tensor, lr: float | Tensor, weights: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """As Learner.learn; lr may be (M,). noise: (M, B, T - 1, d), added to the input embeddings."""
        loss, gradient = self.gradient(tokens.to(self.device), weights, noise)
        if self.adam.clip is not None:
            gradient.mul_((self.adam.clip / gradient.norm(dim=1, keepdim=True)).clamp_(max=1))
        self.optimiser.lr.copy_(torch.as_tensor(lr))
        self.optimiser.step({"networks": gradient})
        return loss

    def gradient(
        self, tokens: Tensor, weights: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean loss (M,) on tokens (M, B, T) and its gradient (M, P); weights and noise as for `learn`."""
        leaves = {name: value.detach().requires_grad_() for name, value in self.weights.items()}
        embedded = llama.embed(leaves, tokens[..., :-1])
        if noise is not None:
            embedded = embedded + noise
        losses = -next_token(llama.logits(self.architecture, leaves, embedded), tokens[..., 1:])
        mean = losses.mean((1, 2)) if weights is None else (losses * weights).sum((1, 2)) / weights.sum((1, 2))
        slopes = torch.autograd.grad(mean.sum(), list(leaves.values()))
        return mean.detach(), self.architecture.pack(dict(zip(leaves, slopes, strict=True)))

    def logits(self, tokens: Tensor) -> Tensor:
        """(M, N, T, V) for tokens (N, T), or (M, N, T)."""
        tokens = tokens.to(self.device).expand(self.members, *tokens.shape[-2:])
        with torch.no_grad():
            return llama.logits(self.architecture, self.weights, llama.embed(self.weights, tokens))

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """As Learner.log_probabilities."""
        targets = tokens[..., 1:].to(self.device)
        return next_token(self.logits(tokens[..., :-1]), targets.expand(self.members, *targets.shape[-2:]))

    def embedding_gradient(self, tokens: Tensor) -> Tensor:
        """Gradient of each sequence's summed log-probability with respect to its input embeddings, (M, N, T - 1, d).

        tokens: (N, T) for all members, or (M, N, T).
        """
        tokens = tokens.to(self.device).expand(self.members, *tokens.shape[-2:])
        embedded = llama.embed(self.weights, tokens[..., :-1]).requires_grad_()
        found = next_token(llama.logits(self.architecture, self.weights, embedded), tokens[..., 1:])
        return torch.autograd.grad(found.sum(), embedded)[0]

    def state(self) -> dict[str, Tensor]:
        """As Learner.state."""
        return self.optimiser.state()


class Pretrained:
    """A causal language model of transformers; as a stack of one. Parameters that need no gradient stay as they are."""

    members = 1

    def __init__(self, model: PreTrainedModel, adam: Adam) -> None:
        self.model, self.adam, self.device = model, adam, str(model.device)
        self.model.eval()  # no dropout: what is measured is what is trained
        self.trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimiser = self._fresh()

    def _fresh(self) -> torch.optim.AdamW:
        adam = self.adam
        return torch.optim.AdamW(
            self.trainable.values(), 0.0, betas=adam.betas, eps=adam.eps, weight_decay=adam.weight_decay, fused=True
        )

    def forget_moments(self) -> None:
        """Begin a new training, from whatever the weights are."""
        self.optimiser = self._fresh()

    def learn(self, tokens: Tensor, lr: float, weights: Tensor | None = None) -> Tensor:
        """As Learner.learn."""
        tokens = tokens[0].to(self.device)
        losses = -next_token(self.model(input_ids=tokens[:, :-1]).logits, tokens[:, 1:])
        loss = losses.mean() if weights is None else (losses * weights[0].to(self.device)).sum() / weights.sum()
        self.optimiser.zero_grad()
        loss.backward()
        if self.adam.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trainable.values(), self.adam.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        return loss.detach().reshape(1)

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """As Learner.log_probabilities."""
        tokens = tokens.reshape(-1, tokens.shape[-1]).to(self.device)
        with torch.no_grad():
            return next_token(self.model(input_ids=tokens[:, :-1]).logits, tokens[:, 1:]).unsqueeze(0)

    def state(self) -> dict[str, Tensor]:
        """As Learner.state; the moments exist after the first step."""
        moments = {
            f"{name}.{key}": value
            for name, parameter in self.trainable.items()
            for key, value in self.optimiser.state.get(parameter, {}).items()
        }
        return {**{name: value.detach() for name, value in self.trainable.items()}, **moments}


def next_token(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability (..., T) of targets (..., T) under logits (..., T, V), in float32."""
    flat = functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return -flat.view(targets.shape)


@dataclass(frozen=True, eq=False)
class Spans:
    """Texts, filled up on the right, and the span of each whose probability counts.

    tokens: (N, T). first, last: (N,), the span is tokens[first:last] and begins after the first token.
    """

    tokens: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, prefixes: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], fill: int) -> Spans:
        """Each prefix, with its answer as the span. fill: what stands behind the shorter ones."""
        texts = [[*prefix, *answer] for prefix, answer in zip(prefixes, answers, strict=True)]
        longest = max(map(len, texts))
        tokens = torch.tensor([text + [fill] * (longest - len(text)) for text in texts])
        return cls(tokens, torch.tensor([len(prefix) for prefix in prefixes]), torch.tensor([len(t) for t in texts]))

    @property
    def mask(self) -> Tensor:
        """(N, T - 1), true where a predicted token belongs to the span."""
        place = torch.arange(1, self.tokens.shape[1])
        return (place >= self.first.unsqueeze(1)) & (place < self.last.unsqueeze(1))

    def log_probability(self, learner: Learner) -> Tensor:
        """Log-probability (M, N) of each span given what stands before it, summed over its tokens, on the CPU."""
        return (learner.log_probabilities(self.tokens).cpu() * self.mask).sum(-1)
