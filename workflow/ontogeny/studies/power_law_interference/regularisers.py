"""What protects a sequential learner: EWC, synaptic intelligence and learning without forgetting, member by member.

EWC and SI are quadratic penalties sum_i P_i (theta_i - theta*_i)^2 / 2, summed over tasks; P and Q = P theta* are all
that their gradient P theta - Q needs, however many tasks there were. Each regulariser has a strength per member.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ontogeny.studies.power_law_interference.network import Perceptrons
from ontogeny.studies.power_law_interference.settings import Regularisers


class Unprotected:
    """No regulariser: the places in the training loop where the others act."""

    def begin_task(self, task: int) -> None:
        """Called before the first update on task number `task`, counted from 0."""

    def output_error(self, images: Tensor, outputs: Tensor, error: Tensor) -> Tensor:
        """Derivative of the loss by the outputs, given that of the cross-entropy; all (M, classes, B)."""
        return error

    def before_update(self) -> None:
        """Called when the gradient of the data's loss is known."""

    def after_update(self) -> None:
        """Called when the parameters have moved."""

    def end_task(self, images: Tensor) -> None:
        """Called after the last update on a task. images: (M, n, pixels), some of the task's training images."""

    def state(self) -> dict[str, Tensor]:
        """Everything that must survive an interruption between two tasks."""
        return {}


class QuadraticPenalty(Unprotected):
    """Pulls parameters towards the values that they had after earlier tasks."""

    def __init__(self, network: Perceptrons, strengths: Tensor) -> None:
        self.network = network
        self.strength = network.spread(strengths)
        self.precision = torch.zeros_like(network.flat)  # P
        self.pull = torch.zeros_like(network.flat)  # Q = P theta*

    def before_update(self) -> None:
        """Add the penalty's gradient P theta - Q."""
        self.network.flat_grad.addcmul_(self.precision, self.network.flat).sub_(self.pull)

    def state(self) -> dict[str, Tensor]:
        """P and Q."""
        return {"penalty.precision": self.precision, "penalty.pull": self.pull}


class ElasticWeights(QuadraticPenalty):
    """EWC (Kirkpatrick et al. 2017), off-line form: lambda/2 sum_k F_k (theta - theta_k)^2, exact diagonal Fisher F."""

    def end_task(self, images: Tensor) -> None:
        """Add lambda F of the task just learned, anchored where the parameters are now."""
        importance = self.network.fisher(images).mul_(self.strength)
        self.precision += importance
        self.pull.addcmul_(importance, self.network.flat)


class PathIntegral(QuadraticPenalty):
    """SI (Zenke, Poole & Ganguli 2017): c sum_i Omega_i (theta_i - theta*_i)^2, Omega from the loss along the path.

    Omega = sum over tasks of (- integral of g dtheta) / (movement^2 + damping), g the gradient of the data's loss.
    """

    def __init__(self, network: Perceptrons, strengths: Tensor, damping: float) -> None:
        super().__init__(network, strengths)
        self.damping = damping
        self.path, self.start = torch.zeros_like(network.flat), torch.zeros_like(network.flat)
        self.gradient, self.previous = torch.zeros_like(network.flat), torch.zeros_like(network.flat)

    def begin_task(self, task: int) -> None:
        """Start a new path here."""
        self.path.zero_()
        self.start.copy_(self.network.flat)

    def before_update(self) -> None:
        """Remember the data's gradient and where the update starts from, then add the penalty."""
        self.gradient.copy_(self.network.flat_grad)
        self.previous.copy_(self.network.flat)
        super().before_update()

    def after_update(self) -> None:
        """Lengthen the path by - g dtheta."""
        self.path.addcmul_(self.gradient, self.previous.sub_(self.network.flat))

    def end_task(self, images: Tensor) -> None:
        """Turn the path into importance; every parameter is now pulled towards where it is."""
        movement = self.network.flat - self.start
        importance = (self.path / (movement.square() + self.damping)).clamp_min_(0)
        self.precision += 2 * self.strength * importance
        torch.mul(self.precision, self.network.flat, out=self.pull)


class Distillation(Unprotected):
    """LwF (Li & Hoiem 2016): on the new images, keep the softened outputs of the network as it was before the task.

    Loss of task t = 0, 1, ...: (CE + strength t temperature^2 KL) / (t + 1), so that the old tasks count t times.
    """

    def __init__(self, network: Perceptrons, strengths: Tensor, temperature: float) -> None:
        self.network, self.temperature = network, temperature
        self.teacher = copy.deepcopy(network)
        self.strength = strengths.view(-1, 1, 1).to(network.device)
        self.task = 0

    def begin_task(self, task: int) -> None:
        """The network as it is now becomes the teacher."""
        self.task = task
        self.teacher.flat.copy_(self.network.flat)
        for name, value in self.teacher.running.items():
            value.copy_(self.network.running[name])

    def output_error(self, images: Tensor, outputs: Tensor, error: Tensor) -> Tensor:
        """Add temperature^2 times the derivative of KL: temperature (softmax(z/temperature) - teacher's) / B."""
        if self.task == 0:
            return error
        taught = torch.softmax(self.teacher.forward(images).div_(self.temperature), 1)
        distilled = torch.softmax(outputs / self.temperature, 1).sub_(taught)
        weight = self.strength * (self.task * self.temperature / images.shape[1])
        return error.addcmul_(distilled, weight).div_(self.task + 1)


def make_regulariser(method: str, settings: Regularisers, network: Perceptrons, strengths: Tensor) -> Unprotected:
    """The regulariser `method` of `network`, with one strength per member (M,)."""
    if method == "ewc":
        return ElasticWeights(network, strengths)
    if method == "si":
        return PathIntegral(network, strengths, settings.damping)
    return Distillation(network, strengths, settings.temperature)
