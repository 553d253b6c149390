"""The corrupted-grokking study's mathematics, against closed forms, brute force and torch's own modules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from ontogeny.run import Run, RunConfig
from ontogeny.studies.corrupted_grokking import architectures, claims, full_batch, minibatch, probe
from ontogeny.studies.corrupted_grokking.members import Member, members
from ontogeny.studies.corrupted_grokking.model import initial_weights, neuron_ipr, participation_ratio, predictions
from ontogeny.studies.corrupted_grokking.optimiser import FusedAdamW
from ontogeny.studies.corrupted_grokking.settings import FullBatch, Minibatch, ReluMlp, Transformer
from ontogeny.studies.corrupted_grokking.task import Accuracies, Task, corrupted_task

P, N = 7, 10
ADAM = {"learning_rate": 0.01, "betas": [0.9, 0.98], "eps": 1e-8}
LISTS = {"modulus": P, "train_fraction": [0.6], "corruption": [0.2], "weight_decay": [0, 5], "steps": 4, "log_every": 2}


def answers(modulus: int = P) -> torch.Tensor:
    residues = torch.arange(modulus)
    return (residues[:, None] + residues) % modulus


def full_batch_settings(**changes) -> FullBatch:
    fields = {"experiment": "full_batch", "width": N, "dropout": [0], "keep_weights": True, **LISTS, **ADAM}
    return FullBatch(**{**fields, **changes})


class Data:
    """Stands for the data folder."""

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return {"answer": answers(int(name.removeprefix("addition-p").removesuffix(".npz"))).numpy()}


def brute_force_loss(weights: torch.Tensor, task: Task, factor: torch.Tensor | float = 1.0) -> torch.Tensor:
    """The loss of one member by one-hot products, as the paper writes it. weights: (3, p, N)."""
    left, right = task.train // P, task.train % P
    total = functional.one_hot(left, P).double() @ weights[0] + functional.one_hot(right, P).double() @ weights[1]
    error = (total * factor) ** 2 @ weights[2].T - functional.one_hot(task.label[task.train], P)
    return (error**2).mean()


def brute_force_gradient(weights: torch.Tensor, task: Task, factor: torch.Tensor | float = 1.0) -> torch.Tensor:
    tracked = weights.double().requires_grad_()
    return torch.autograd.grad(brute_force_loss(tracked, task, factor), tracked)[0].float()


def block_gradients(tasks: list[Task], weights: torch.Tensor) -> list[full_batch.BlockGradient]:
    blocks = full_batch.cut(tasks, P, N, "cpu")
    arrays = full_batch.Arrays(blocks, weights)
    return [full_batch.BlockGradient(block, weights, arrays) for block in blocks]


# --- the task ---------------------------------------------------------------------------------------------------------


def test_split_and_corruption_have_the_asked_sizes_and_are_nested() -> None:
    small, large = corrupted_task(answers(), 0.4, 0.2, seed=3), corrupted_task(answers(), 0.8, 0.5, seed=3)
    assert len(small.train) == round(0.4 * P * P) == int(small.trained.sum())
    assert int(large.corrupted.sum()) == round(0.5 * len(large.train))
    assert set(small.train.tolist()) < set(large.train.tolist())
    assert bool((large.trained | ~large.corrupted).all())
    assert torch.equal(large.label[~large.corrupted], answers().flatten()[~large.corrupted])


def test_accuracies_by_hand() -> None:
    truth = torch.tensor([0, 1, 2, 0])
    task = Task(
        train=torch.tensor([0, 1, 2]), answer=truth, label=torch.tensor([0, 2, 2, 0]),
        trained=torch.tensor([True, True, True, False]), corrupted=torch.tensor([False, True, False, False]),
    )  # fmt: skip
    score = Accuracies.of([task], "cpu").score(torch.tensor([[0, 1, 1, 0]]))
    expected = {"train": 1 / 3, "corrupted": 0, "uncorrupted": 0.5, "test": 1, "inversion": 1}
    assert {name: float(score[f"{name}_accuracy"][0]) for name in expected} == pytest.approx(expected)


# --- the quadratic network --------------------------------------------------------------------------------------------


def test_participation_ratio_of_known_vectors() -> None:
    modulus = 59
    residues = torch.arange(modulus, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * 5 * residues / modulus + 0.3)
    assert participation_ratio(wave, dim=0) == pytest.approx(1.0)
    assert participation_ratio(torch.eye(modulus)[3], dim=0) == pytest.approx(1 / 30)
    noise = torch.randn(59, 2000, generator=torch.Generator().manual_seed(0))
    assert participation_ratio(noise, dim=0).mean() == pytest.approx(2 / 30, rel=0.1)


def test_dead_neurons_have_no_ratio() -> None:
    weights = initial_weights([0], P, N, "cpu")
    weights[0, :, :, 2] *= 1e-9
    assert torch.isnan(neuron_ipr(weights)[0]).nonzero().flatten().tolist() == [2]


def test_initial_weights_have_the_papers_variance() -> None:
    weights = initial_weights([0], 97, 500, "cpu")
    assert float(weights.var()) == pytest.approx((16 * 500) ** (-2 / 3), rel=0.02)


def test_periodic_solution_answers_everything_and_has_ratio_one() -> None:
    """Gromov (2023): U = cos(w m + a), V = cos(w n + b), W = cos(-w q - a - b) with many frequencies and phases."""
    modulus, width = 11, 600
    stream = torch.Generator().manual_seed(0)
    frequency = torch.randint(1, modulus // 2 + 1, (width,), generator=stream) * 2 * torch.pi / modulus
    first, second = 2 * torch.pi * torch.rand(2, width, generator=stream)
    grid = torch.arange(modulus)[:, None] * frequency
    weights = torch.stack([torch.cos(grid + first), torch.cos(grid + second), torch.cos(-grid - first - second)])[None]
    assert torch.equal(predictions(weights, 2000)[0], answers(modulus).flatten())
    assert neuron_ipr(weights)[0].min() > 0.999


@pytest.mark.parametrize("elements", [40, 300, 10**6])
def test_predictions_equal_brute_force(elements: int) -> None:
    weights = initial_weights(range(3), P, N, "cpu")
    constant = torch.randn(3, 1, P, generator=torch.Generator().manual_seed(1))
    total = weights[:, 0, :, None] + weights[:, 1, None]
    outputs = torch.einsum("mabk,mqk->mabq", total**2, weights[:, 2]).flatten(1, 2) + constant
    assert torch.equal(predictions(weights, elements, constant), outputs.argmax(dim=2))


@pytest.mark.parametrize("elements", [60, 500, 10**6])
def test_gradient_equals_brute_force_however_it_is_cut(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_batch, "CACHE_ELEMENTS", elements)
    tasks = [corrupted_task(answers(), alpha, 0.2, seed) for alpha in (0.5, 0.7) for seed in range(3)]
    weights = initial_weights(range(6), P, N, "cpu")
    found = torch.cat([gradient().clone() for gradient in block_gradients(tasks, weights)])
    expected = torch.stack([brute_force_gradient(*pair) for pair in zip(weights, tasks, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_gradient_with_dropout_equals_brute_force() -> None:
    tasks = [corrupted_task(answers(), 0.6, 0.2, seed=0)]
    weights = initial_weights([0], P, N, "cpu")
    (gradient,) = block_gradients(tasks, weights)
    dropout = full_batch.Dropout([Member(0, 0.6, 0.2, 0.0, 0.5, False)], "cpu")
    (mask,) = dropout.masks(gradient.block, N)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    found = gradient(iter([mask]))
    expected = brute_force_gradient(weights[0], tasks[0], mask[0].double())
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-7)


def test_gradient_is_the_slope_of_the_loss() -> None:
    task = corrupted_task(answers(), 0.6, 0.2, seed=0)
    weights = initial_weights([0], P, N, "cpu")
    (gradient_of,) = block_gradients([task], weights)
    gradient = gradient_of()[0].double()
    direction = torch.randn(3, P, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    up, down = (brute_force_loss(weights[0].double() + sign * 1e-5 * direction, task) for sign in (1, -1))
    assert float((gradient * direction).sum()) == pytest.approx(float(up - down) / 2e-5, rel=1e-4)


def test_fused_adamw_equals_torch_for_every_member() -> None:
    settings = full_batch_settings()
    stream = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 3, 4, generator=stream)
    singles = [weights[index].clone().requires_grad_() for index in range(2)]
    reference = [
        torch.optim.AdamW([single], lr=0.01, betas=(0.9, 0.98), eps=1e-8, weight_decay=decay)
        for single, decay in zip(singles, (0.0, 5.0), strict=True)
    ]
    optimiser = FusedAdamW({"w": weights}, settings, torch.tensor([0.0, 5.0]), blocks=2)
    for _ in range(20):
        grads = torch.randn(2, 3, 4, generator=stream)
        for index, single in enumerate(singles):
            optimiser.step({"w": grads[index : index + 1]}, slice(index, index + 1), index)
            single.grad = grads[index].clone()
            reference[index].step()
    torch.testing.assert_close(weights, torch.stack([single.detach() for single in singles]))


# --- minibatches and BatchNorm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_norm", [False, True])
def test_minibatch_gradient_equals_torchs_modules(with_norm: bool) -> None:
    weights = initial_weights([0, 1], P, N, "cpu")
    stream = torch.Generator().manual_seed(5)
    pairs, labels = torch.randint(P * P, (2, 16), generator=stream), torch.randint(P, (2, 16), generator=stream)
    norm = minibatch.BatchNorm.initial(2, N, "cpu") if with_norm else None
    if norm:
        norm.scale.copy_(torch.rand(2, 1, N, generator=stream) + 0.5)
        norm.shift.copy_(torch.randn(2, 1, N, generator=stream))
    found = minibatch.gradient(pairs, labels, weights, norm)
    for member in range(2):
        module = torch.nn.BatchNorm1d(N)
        tracked = weights[member].clone().requires_grad_()
        squares = (tracked[0][pairs[member] // P] + tracked[1][pairs[member] % P]) ** 2
        if norm:
            module.weight.data.copy_(norm.scale[member, 0])
            module.bias.data.copy_(norm.shift[member, 0])
            squares = module(squares)
        ((squares @ tracked[2].T - functional.one_hot(labels[member], P)) ** 2).mean().backward()
        torch.testing.assert_close(found["weights"][member], tracked.grad, rtol=1e-3, atol=1e-6)
        if norm:
            torch.testing.assert_close(found["scale"][member, 0], module.weight.grad, rtol=1e-3, atol=1e-6)
            torch.testing.assert_close(found["shift"][member, 0], module.bias.grad, rtol=1e-3, atol=1e-6)
            torch.testing.assert_close(norm.mean[member, 0], module.running_mean)
            torch.testing.assert_close(norm.variance[member, 0], module.running_var)
            evaluated = module.eval()((weights[member, 0, :, None] + weights[member, 1, None]).flatten(0, 1) ** 2)
            folded, constant = norm.folded(weights)
            squares = (folded[member, 0, :, None] + folded[member, 1, None]).flatten(0, 1) ** 2
            torch.testing.assert_close(
                squares @ folded[member, 2].T + constant[member], evaluated @ weights[member, 2].T, rtol=1e-3, atol=1e-5
            )


def test_minibatches_cover_each_epoch_once() -> None:
    task = corrupted_task(answers(), 0.6, 0.2, seed=0)
    batches = minibatch.Batches([Member(0, 0.6, 0.2, 0.0, 0.0, False)], [task], 6)
    stream = torch.cat([batches(step)[0] for step in range(15)])
    for epoch in range(3):
        part = stream[epoch * len(task.train) : (epoch + 1) * len(task.train)]
        assert torch.equal(part.sort().values, task.train)
    other_member_of_the_seed = Member(0, 0.6, 0.2, 5.0, 0.0, True)
    assert torch.equal(minibatch.Batches([other_member_of_the_seed], [task], 6)(7), batches(7))


# --- other architectures ----------------------------------------------------------------------------------------------


def test_relu_network_equals_one_hot_products() -> None:
    settings = ReluMlp(experiment="relu_mlp", width=N, **LISTS, **ADAM)
    weights = architectures.relu_mlp_weights([0, 1], settings, "cpu")
    pairs = torch.arange(P * P).expand(2, -1)
    one_hot = torch.cat([functional.one_hot(pairs[0] // P, P), functional.one_hot(pairs[0] % P, P)], dim=1).float()
    for member, found in enumerate(architectures.relu_mlp(weights, pairs)):
        first = (one_hot @ weights["embedding"][member].flatten(0, 1)).relu()
        expected = (first @ weights["hidden"][member].T).relu() @ weights["readout"][member].T
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_transformer_attends_like_torchs_attention() -> None:
    settings = Transformer(experiment="transformer", width=8, heads=2, **LISTS, **ADAM)
    weights = architectures.transformer_weights([0], settings, "cpu")
    pairs = torch.arange(P * P)[None]
    tokens = torch.stack([pairs[0] // P, pairs[0] % P], dim=1)
    stream = weights["embedding"][0, 0][tokens] + weights["position"][0]
    attention = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    attention.in_proj_weight.data.copy_(weights["query_key_value"][0])
    attention.out_proj.weight.data.copy_(weights["mix"][0])
    stream = stream + attention(stream, stream, stream)[0]
    stream = stream + (stream @ weights["up"][0].T).relu() @ weights["down"][0].T
    expected = stream[:, 1] @ weights["readout"][0].T
    torch.testing.assert_close(architectures.transformer(weights, pairs, 2)[0], expected, rtol=1e-4, atol=1e-5)


def test_gradients_have_the_memory_order_of_the_weights() -> None:
    """The fused optimiser reads memory, not strides: a transposed gradient would train silently wrong."""
    settings = ReluMlp(experiment="relu_mlp", width=N, **LISTS, **ADAM)
    weights = architectures.relu_mlp_weights([0], settings, "cpu")
    grads = architectures.gradients(architectures.relu_mlp, weights, torch.arange(P)[None], torch.zeros(1, P, P))
    assert {name: grad.stride() for name, grad in grads.items()} == {name: w.stride() for name, w in weights.items()}


# --- ensembles --------------------------------------------------------------------------------------------------------


def trained(settings, train, seeds: tuple[int, ...], tmp_path) -> pd.DataFrame:
    config = RunConfig("corrupted_grokking", "smoke", "run", "row", settings, seeds, "cpu")
    run = Run(config, tmp_path / "-".join(map(str, seeds)), "identity")
    train(config, Data(), run)
    return pd.concat(run._stored_history(), ignore_index=True)


MINIBATCH = {"experiment": "minibatch", "width": N, "batch_norm": [False, True], "batch_size": 8, "keep_weights": True}


@pytest.mark.parametrize(
    ("settings", "train"),
    [
        (full_batch_settings(train_fraction=[0.4, 0.6], dropout=[0, 0.3]), full_batch.train_full_batch),
        (Minibatch(**MINIBATCH, **LISTS, **ADAM), minibatch.train_minibatch),
        (ReluMlp(experiment="relu_mlp", width=N, **LISTS, **ADAM), architectures.train_architecture),
        (Transformer(experiment="transformer", width=8, heads=2, **LISTS, **ADAM), architectures.train_architecture),
    ],
    ids=["full_batch", "minibatch", "relu_mlp", "transformer"],
)
def test_member_in_the_ensemble_equals_member_alone(settings, train, tmp_path) -> None:
    together, alone = trained(settings, train, (0, 1, 2), tmp_path), trained(settings, train, (1,), tmp_path)
    keys = ["train_fraction", "weight_decay", "dropout", "batch_norm", "step"]
    chosen = together[together["seed"] == 1].sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(chosen, alone.sort_values(keys, ignore_index=True), rtol=1e-4, check_exact=False)


def test_members_with_equal_training_sets_stand_together() -> None:
    settings = full_batch_settings(train_fraction=[0.4, 0.6], corruption=[0, 0.2])
    config = RunConfig("corrupted_grokking", "smoke", "run", "row", settings, (0, 1), "cpu")
    fractions = [member.train_fraction for member in members(config)]
    assert fractions == sorted(fractions)
    assert len(fractions) == 2 * 2 * 2 * 2


# --- probes and claims ------------------------------------------------------------------------------------------------


def test_phases_follow_the_papers_rules() -> None:
    rows = [
        (0.95, 0.95, "coexistence"), (0.80, 0.95, "partial inversion"), (0.66, 0.95, "full inversion"),
        (0.95, 0.20, "memorisation"), (0.60, 0.20, "forgetting or confusion"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["train_accuracy", "test_accuracy", "phase"]).assign(corruption=0.35)
    assert probe.phases(table).tolist() == table["phase"].tolist()


def test_pruning_starts_at_the_network_and_ends_at_silence() -> None:
    task = corrupted_task(answers(), 0.6, 0.2, seed=0)
    weights = initial_weights([0], P, N, "cpu")
    curve = probe.pruning_curve(weights[0], torch.arange(N), task)
    whole = Accuracies.of([task], "cpu").score(predictions(weights, 10**6))
    assert curve["test_accuracy"].iloc[0] == pytest.approx(float(whole["test_accuracy"][0]))
    answered_zero = float((task.answer[~task.trained] == 0).double().mean())
    assert curve["test_accuracy"].iloc[-1] == pytest.approx(answered_zero)
    half = weights.clone()
    half[:, :, :, : N // 2] = 0
    middle = Accuracies.of([task], "cpu").score(predictions(half, 10**6))
    assert curve.set_index("pruned_percent")["test_accuracy"][50] == pytest.approx(float(middle["test_accuracy"][0]))


def test_stages_of_a_hand_made_curve() -> None:
    member = pd.DataFrame({
        "step": [0, 10, 20, 30, 40],
        "corrupted_accuracy": [0.0, 1.0, 0.8, 0.6, 0.1],
        "test_accuracy": [0, 0.1, 0.95, 1, 1],
    })  # fmt: skip
    assert claims._stages(member) == {
        "peak": 1.0, "final": 0.1, "grokking_after_peak": 10.0, "drop_after_grokking": 20.0, "test": 1.0,
    }  # fmt: skip


def test_map_statistics_of_a_hand_made_map() -> None:
    xi, alpha = np.meshgrid([0.0, 0.1, 0.2], [0.3, 0.6, 0.9])
    grid = pd.DataFrame({"corruption": xi.ravel(), "train_fraction": alpha.ravel(), "weight_decay": 0.0})
    grid["generalises"] = grid["train_fraction"] >= 0.3 + 3 * grid["corruption"] - 1e-9
    assert claims._violations(grid) == 0
    assert claims._boundary_slope(grid) == pytest.approx(1.0)
    grid.loc[(grid["corruption"] == 0) & (grid["train_fraction"] == 0.9), "generalises"] = False
    assert claims._violations(grid) == pytest.approx(2 / 9)
