"""M multilayer perceptrons as one tensor program, with gradients written out.

Activations are (M, units, B): a column is an example, as in h_l = f(W_l h_{l-1} + b_l). All parameters of all members
lie in one flat vector, so that Adam and the quadratic penalties are a handful of operations on long vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

BN_EPS, BN_MOMENTUM = 1e-5, 0.1  # PyTorch's defaults


def initial_parameters(sizes: Sequence[int], batch_norm: bool, stream: torch.Generator) -> dict[str, Tensor]:
    """One network with PyTorch's default initialisation: weights and biases uniform in +-1/sqrt(inputs).

    sizes: units of the input, of every hidden layer, and of the output.
    """
    params: dict[str, Tensor] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        bound = inputs**-0.5
        params[f"weight{layer}"] = (2 * torch.rand(outputs, inputs, generator=stream) - 1) * bound
        params[f"bias{layer}"] = (2 * torch.rand(outputs, 1, generator=stream) - 1) * bound
        if batch_norm and layer < len(sizes) - 2:
            params[f"scale{layer}"] = torch.ones(outputs, 1)
            params[f"shift{layer}"] = torch.zeros(outputs, 1)
    return params


class Perceptrons:
    """M networks of equal shape: ReLU, optional batch normalisation before it and dropout after it."""

    def __init__(self, members: Sequence[dict[str, Tensor]], dropout: float, device: str) -> None:
        """members: the initial parameters of each network."""
        self.members, self.dropout, self.device = len(members), dropout, device
        self._shapes = {name: (self.members, *value.shape) for name, value in members[0].items()}
        stacked = [torch.stack([member[name] for member in members]) for name in self._shapes]
        self.flat = torch.cat([value.flatten() for value in stacked]).to(device)
        self.flat_grad = torch.zeros_like(self.flat)
        self.params, self.grads = self.views(self.flat), self.views(self.flat_grad)
        self.depth = sum(name.startswith("weight") for name in self._shapes)
        self.batch_norm = "scale0" in self._shapes
        self.running: dict[str, Tensor] = {}
        for layer in range(self.depth - 1) if self.batch_norm else ():
            self.running[f"mean{layer}"] = torch.zeros_like(self.params[f"bias{layer}"])
            self.running[f"variance{layer}"] = torch.ones_like(self.params[f"bias{layer}"])
        self._inputs: list[Tensor] = []  # of each layer in the last forward pass, (M, units, B)
        self._normalised: list[tuple[Tensor, Tensor]] = []  # normalised values and 1 / standard deviation
        self._gain = 1.0  # of the units that dropout kept in the last forward pass
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat vector of all members' parameters, seen as named tensors (M, ...) that share its memory."""
        sizes = [torch.Size(shape).numel() for shape in self._shapes.values()]
        pieces = flat.split(sizes)
        return {name: piece.view(shape) for piece, (name, shape) in zip(pieces, self._shapes.items(), strict=True)}

    def spread(self, values: Tensor) -> Tensor:
        """A value for each member (M,), repeated over the flat vector's layout."""
        pieces = [values.view(-1, 1, 1).expand(shape).flatten() for shape in self._shapes.values()]
        return torch.cat(pieces).to(self.device)

    def forward(self, images: Tensor, streams: Sequence[torch.Generator] | None = None) -> Tensor:
        """Outputs before the softmax, (M, classes, B), and what `backward` needs.

        images: (M, B, pixels). streams: each member's dropout stream in training; None means examination, with dropout
        off and batch normalisation frozen.
        """
        hidden, training = images.transpose(1, 2), streams is not None
        self._inputs, self._normalised = [hidden], []
        self._gain = 1 / (1 - self.dropout) if training else 1.0
        for layer in range(self.depth - 1):
            hidden = self._affine(layer, hidden)
            if self.batch_norm:
                hidden = self._normalise(layer, hidden, training)
            hidden.clamp_min_(0)
            if streams is not None and self.dropout:
                hidden *= self._kept(hidden, streams)
            self._inputs.append(hidden)
        return self._affine(self.depth - 1, hidden)

    def backward(self, delta: Tensor) -> None:
        """Fill the gradients of the loss from its derivative by the outputs, `delta` (M, classes, B).

        Belongs to the last forward pass in training.
        """
        for layer in reversed(range(self.depth)):
            torch.bmm(delta, self._inputs[layer].transpose(1, 2), out=self.grads[f"weight{layer}"])
            torch.sum(delta, 2, keepdim=True, out=self.grads[f"bias{layer}"])
            if layer:
                delta = self._through_relu(layer, delta)
                if self.batch_norm:
                    delta = self._through_normalisation(layer - 1, delta)

    def fisher(self, images: Tensor) -> Tensor:
        """Exact diagonal Fisher information, averaged over images (M, B, pixels), in the flat layout.

        F = mean_n sum_c p_c(n) (d log p_c(n) / d theta)^2. For a linear layer with inputs a and errors d the sum of
        squares over examples is (d^2)(a^2)': no gradient of a single example is ever formed.
        """
        probabilities = torch.softmax(self.forward(images), 1)
        classes, batch = probabilities.shape[1:]
        errors = torch.eye(classes, device=self.device)[:, :, None] - probabilities[:, None]  # (M, label, output, B)
        errors *= probabilities.sqrt()[:, :, None]
        delta = errors.transpose(1, 2).reshape(self.members, classes, classes * batch)
        information = torch.zeros_like(self.flat)
        for layer in reversed(range(self.depth)):
            self._add_squares(self.views(information), layer, delta, classes)
            if layer:
                delta = self._through_relu(layer, delta, repeat=classes)
                if self.batch_norm:
                    self._add_norm_squares(self.views(information), layer - 1, delta, classes)
                    scale, (_, precision) = self.params[f"scale{layer - 1}"], self._normalised[layer - 1]
                    delta = delta * (scale * precision)
        return information.div_(batch)

    def _affine(self, layer: int, hidden: Tensor) -> Tensor:
        weight, bias = self.params[f"weight{layer}"], self.params[f"bias{layer}"]
        out = self._buffer(f"affine{layer}", weight.shape[1], hidden.shape[2])
        return torch.bmm(weight, hidden, out=out).add_(bias)

    def _buffer(self, name: str, units: int, batch: int) -> Tensor:
        """Memory that is used again at every update: fresh pages would cost more than the arithmetic."""
        if (name, batch) not in self._buffers:
            self._buffers[name, batch] = torch.empty(self.members, units, batch, device=self.device)
        return self._buffers[name, batch]

    def _through_relu(self, layer: int, delta: Tensor, repeat: int = 1) -> Tensor:
        """Take errors at the input of `layer` back through its weights, dropout and ReLU: (M, inputs, repeat * B)."""
        weight, hidden = self.params[f"weight{layer}"], self._inputs[layer]
        out = self._buffer(f"error{layer}", weight.shape[2], delta.shape[2])
        torch.bmm(weight.transpose(1, 2), delta, out=out)
        columns = out.unflatten(2, (repeat, -1))
        torch.ops.aten.threshold_backward.grad_input(columns, hidden.unsqueeze(2), 0.0, grad_input=columns)
        return out if self._gain == 1.0 else out.mul_(self._gain)

    def _kept(self, hidden: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
        shape = hidden.shape[1:]
        draws = [torch.rand(shape, generator=stream, device=self.device) for stream in streams]
        return torch.stack(draws).ge_(self.dropout).mul_(self._gain)

    def _normalise(self, layer: int, values: Tensor, training: bool) -> Tensor:
        mean, variance = self.running[f"mean{layer}"], self.running[f"variance{layer}"]
        if training:
            batch_variance, batch_mean = torch.var_mean(values, 2, correction=0, keepdim=True)
            unbiased = values.shape[2] / (values.shape[2] - 1)
            mean.lerp_(batch_mean, BN_MOMENTUM)
            variance.lerp_(batch_variance * unbiased, BN_MOMENTUM)
            mean, variance = batch_mean, batch_variance
        precision = (variance + BN_EPS).rsqrt()
        normalised = (values - mean) * precision
        self._normalised.append((normalised, precision))
        return normalised * self.params[f"scale{layer}"] + self.params[f"shift{layer}"]

    def _through_normalisation(self, layer: int, delta: Tensor) -> Tensor:
        """Ioffe & Szegedy (2015): the batch's mean and variance depend on every example."""
        normalised, precision = self._normalised[layer]
        shift, scale = self.grads[f"shift{layer}"], self.grads[f"scale{layer}"]
        torch.sum(delta, 2, keepdim=True, out=shift)
        torch.sum(delta * normalised, 2, keepdim=True, out=scale)
        batch = delta.shape[2]
        return (delta - shift / batch - normalised * (scale / batch)) * (self.params[f"scale{layer}"] * precision)

    def _add_squares(self, information: dict[str, Tensor], layer: int, delta: Tensor, labels: int) -> None:
        squares = delta.square().unflatten(2, (labels, -1)).sum(2)
        information[f"weight{layer}"] += torch.bmm(squares, self._inputs[layer].square().transpose(1, 2))
        information[f"bias{layer}"] += squares.sum(2, keepdim=True)

    def _add_norm_squares(self, information: dict[str, Tensor], layer: int, delta: Tensor, labels: int) -> None:
        squares = delta.square().unflatten(2, (labels, -1)).sum(2)
        information[f"scale{layer}"] += (squares * self._normalised[layer][0].square()).sum(2, keepdim=True)
        information[f"shift{layer}"] += squares.sum(2, keepdim=True)
