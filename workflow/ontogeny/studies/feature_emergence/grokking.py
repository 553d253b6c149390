"""Training of stacked networks, with their curves and, where asked for, what the theory watches."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.feature_emergence.data import GroupData, load_group
from ontogeny.studies.feature_emergence.energy import part_shares
from ontogeny.studies.feature_emergence.members import Crew, columns, crews
from ontogeny.studies.feature_emergence.network import Gradient, initial_weights, labels, scores, training_pairs
from ontogeny.studies.feature_emergence.optimisers import optimiser_of
from ontogeny.studies.feature_emergence.ridge import centred
from ontogeny.studies.feature_emergence.settings import Grokking

CLEAR = 0.5  # a node that has more than this share of its power in one part stands for a feature
ALIVE = 1e-3  # a node counts if its weights are at least this share of the largest node's


class Training:
    """One crew: its weights, its data, and one epoch after another."""

    def __init__(self, crew: Crew, group: GroupData, settings: Grokking, device: str) -> None:
        members, order = crew.members, len(group.table)
        self.crew, self.group, self.stop_at = crew, group, settings.stop_at
        table, shuffled = torch.from_numpy(group.table), settings.products == "shuffled"
        self.answers = torch.stack([labels(table, shuffled, member.seed) for member in members])
        self.pairs = torch.stack([training_pairs(order, member.fraction, member.seed) for member in members])
        trained = torch.zeros(len(members), order**2, dtype=torch.bool)
        self.trained = trained.scatter_(1, self.pairs, True).to(device)
        seeds, zero = [member.seed for member in members], [member.zero_readout for member in members]
        self.weights = initial_weights(seeds, order, members[0].width, zero, device)
        self.gradient = Gradient(self.weights, self.pairs, self.answers)
        decays = torch.tensor([member.weight_decay for member in members], device=device)
        self.optimiser = optimiser_of(crew.optimiser, self.weights, decays)
        self.previous = self.weights.clone()
        self.finished = torch.zeros(len(members), dtype=torch.bool)
        self.answers, self.pairs = self.answers.to(device), self.pairs.to(device)

    def advance(self, epochs: int) -> None:
        """Train for `epochs` epochs, unless every network is finished."""
        for _ in range(0 if bool(self.finished.all()) else epochs):
            self.optimiser.step(self.gradient())

    def scores(self) -> dict[str, Tensor]:
        """Losses and accuracies, (r,) each."""
        return scores(self.weights, self.trained, self.answers)

    def diagnose(self) -> dict[str, Tensor]:
        """What the theory watches, (r,) each; moves are measured against the last call."""
        entries = zip(self.weights, self.pairs, self.answers.gather(1, self.pairs), strict=True)
        rows = [watch(*entry) for entry in entries]
        moves = {"move_v": _turn(self.weights[:, 2], self.previous[:, 2])}
        moves["move_w"] = _turn(self.weights[:, :2], self.previous[:, :2])
        self.previous.copy_(self.weights)
        watched = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {**watched, **moves, **spectrum(self.weights, self.group)}

    def state(self, prefix: str) -> State:
        """All that a resumed training needs."""
        everything = {**self.optimiser.state(), "previous": self.previous, "finished": self.finished}
        return {f"{prefix}.{name}": value for name, value in everything.items()}


def watch(weights: Tensor, pairs: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """G_F and the Gram matrices of one network, scalars. weights: (3, M, K). pairs, answers: (n,).

    gradient_norm |G_F|, G_F = (Y~ - F~ V) V^T; alignment: its cosine with Y~ Y~^T F~; off_nodes, off_pairs: mean
    absolute off-diagonal element of F~^T F~ (K, K) and of F~ F~^T (n, n) over the mean diagonal one.
    """
    order = weights.shape[1]
    features = centred((weights[0, pairs // order] + weights[1, pairs % order]).square())
    targets = centred(torch.nn.functional.one_hot(answers, order).to(weights.dtype))
    readout = weights[2] - weights[2].mean(dim=0)
    gradient = (targets - features @ readout.T) @ readout
    wanted = targets @ (targets.T @ features)
    norm = gradient.norm()
    return {
        "gradient_norm": norm,
        "alignment": (gradient * wanted).sum() / (norm * wanted.norm()).clamp_min(1e-30),
        "off_nodes": off_diagonal(features.T @ features),
        "off_pairs": off_diagonal(features @ features.T),
    }


def off_diagonal(gram: Tensor) -> Tensor:
    """Mean absolute off-diagonal element over the mean diagonal one, of a Gram matrix."""
    size, diagonal = len(gram), gram.diagonal().sum()
    return (gram.abs().sum() - diagonal) / (diagonal * (size - 1))


def spectrum(weights: Tensor, group: GroupData) -> dict[str, Tensor]:
    """peak_share: share of the nodes' power that lies in each node's best part. features: how many parts are the clear
    peak of some living node. Of networks (r, 3, M, K); (r,) each."""
    nodes = weights[:, :2].permute(0, 3, 1, 2)
    peak, part = part_shares(nodes, group.parts).max(dim=2)
    power = nodes.square().sum(dim=(2, 3))
    clear = (peak > CLEAR) & alive(weights)
    found = torch.nn.functional.one_hot(part, len(group.parts.dimension)).bool() & clear[:, :, None]
    shares = (power * peak).sum(dim=1) / power.sum(dim=1)
    return {"peak_share": shares, "features": found.any(dim=1).sum(dim=1).to(weights.dtype)}


def alive(weights: Tensor) -> Tensor:
    """Which nodes have incoming weights worth counting, (r, K) bool. weights: (r, 3, M, K)."""
    norm = weights[:, :2].square().sum(dim=(1, 2)).sqrt()
    return norm > ALIVE * norm.max(dim=1, keepdim=True).values


def _turn(now: Tensor, before: Tensor) -> Tensor:
    """Cosine distance of the weights of each network, (r,); in double precision, because it is small."""
    a, b = now.flatten(1).double(), before.flatten(1).double()
    return 1 - (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-30)


def train_grokking(config: RunConfig, data: Folder, run: Run) -> None:
    """Train all members of the run, log them every `log_every` epochs, keep the final weights if the row says so."""
    settings, device = config.settings, config.device
    groups = {name: load_group(data, name) for name in settings.groups}
    ensemble = [
        Training(crew, groups[crew.members[0].group], settings, device)
        for crew in crews(settings, config.seeds, device)
    ]
    state: State = {}
    for index, training in enumerate(ensemble):
        state |= training.state(str(index))
        _log(run, training, 0)
    bounds = [*range(0, settings.epochs, settings.log_every), settings.epochs]
    for index in run.steps(len(bounds) - 1, state):
        for training in ensemble:
            training.advance(bounds[index + 1] - bounds[index])
            _log(run, training, bounds[index + 1])
    if settings.keep_weights:
        for index, training in enumerate(ensemble):
            run.checkpoint(f"crew-{index:03d}", {"weights": training.weights})


def _log(run: Run, training: Training, epoch: int) -> None:
    """One row for each network that is not finished."""
    if bool(training.finished.all()):
        return
    measures = training.scores()
    run.require_finite(epoch, measures["train_loss"], training.crew.members)
    if run.config.settings.diagnose:
        measures |= training.diagnose()
    present = (~training.finished).nonzero()[:, 0]
    everyone = training.crew.members
    run.log(
        epoch=epoch,
        **columns([everyone[index] for index in present.tolist()]),
        **{name: values.cpu()[present] for name, values in measures.items()},
    )
    if training.stop_at is not None:
        training.finished |= measures["test_accuracy"].cpu() >= training.stop_at
