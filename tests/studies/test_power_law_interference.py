"""The mathematics of the power-law study, against closed forms, autograd, brute force and torch's own modules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.func import functional_call

from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig
from ontogeny.studies.power_law_interference import claims, data, probe, regularisers, train
from ontogeny.studies.power_law_interference import environment as env
from ontogeny.studies.power_law_interference.network import Perceptrons, initial_parameters
from ontogeny.studies.power_law_interference.settings import Environments, Regularisers
from ontogeny.studies.power_law_interference.stream import draw_lesson, make_world

SIZES, MEMBERS, BATCH = [12, 7, 5, 10], 3, 16
PROTOCOL = {
    "tasks": 3, "updates": 4, "batch": 8, "widths": [6], "hidden_layers": 2, "dropout": 0.0, "batch_norm": False,
    "learning_rate": 0.01, "train_images": 40, "test_images": 20, "replay_fractions": [0.5], "criterion": 0.5,
    "criterion_window": 8, "members_at_once": 8,
}  # fmt: skip
TUNED = {"strengths": {"ewc": [1.0]}, "tuning_seeds": 1, "fisher_images": 16, "damping": 0.1, "temperature": 2.0}


def environments(**changes) -> Environments:
    fields = {"experiment": "environments", "environments": ["sequential", "powerlaw"], "fresh": False, **PROTOCOL}
    return Environments(**{**fields, **changes})


def networks(batch_norm: bool = False, dropout: float = 0.0, members: int = MEMBERS) -> Perceptrons:
    drawn = [initial_parameters(SIZES, batch_norm, generator(seed, "init")) for seed in range(members)]
    return Perceptrons(drawn, dropout, "cpu")


def module(network: Perceptrons, member: int) -> nn.Sequential:
    """The same network in torch's own modules, in double precision."""
    layers: list[nn.Module] = []
    for layer in range(network.depth):
        linear = nn.Linear(SIZES[layer], SIZES[layer + 1])
        linear.weight.data = network.params[f"weight{layer}"][member].clone()
        linear.bias.data = network.params[f"bias{layer}"][member, :, 0].clone()
        layers.append(linear)
        if layer < network.depth - 1:
            layers += [nn.BatchNorm1d(SIZES[layer + 1]), nn.ReLU()] if network.batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def batch(members: int = MEMBERS) -> tuple[torch.Tensor, torch.Tensor]:
    stream = generator(0, "test batch")
    return torch.rand(members, BATCH, SIZES[0], generator=stream), torch.randint(10, (members, BATCH), generator=stream)


def cross_entropy_step(network: Perceptrons, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    outputs = network.forward(images, [generator(i, "dropout") for i in range(network.members)])
    target = nn.functional.one_hot(labels, 10).transpose(1, 2)
    network.backward((torch.softmax(outputs, 1) - target) / labels.shape[1])
    return outputs


def arrays(images: int = 200, pixels: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"{part}_{kind}": rng.integers(0, 256 if kind == "images" else 10, shape, dtype=np.uint8)
        for part in ("train", "test") for kind, shape in (("images", (images, pixels)), ("labels", (images,)))
    }  # fmt: skip


# --- environments


def test_the_unrestricted_environment_is_the_released_matrix():
    released = [57927, 33969, 20867, 13329, 8802, 5981, 4167, 2968, 2155, 1592]
    np.testing.assert_allclose(57927 * env.need(np.arange(10)), released, atol=1)
    share = 100 * env.shares("unrestricted", 9, 0.5)[::-1]
    np.testing.assert_allclose(share, [38.2, 22.4, 13.8, 8.8, 5.8, 3.9, 2.7, 2.0, 1.4, 1.0], atol=0.06)


def test_budgeted_schedules_have_the_published_ratios():
    powerlaw = env.rehearsal_weights("powerlaw", 9)
    assert powerlaw[-1] / powerlaw[0] == pytest.approx(10.5, abs=0.05)
    exponential = env.rehearsal_weights("exponential", 9)
    assert exponential[-1] / exponential[0] == pytest.approx(2981, rel=1e-3)
    assert env.rehearsal_weights("recent", 4).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["uniform", "powerlaw", "exponential", "recent"])
def test_rehearsals_keep_their_budget(name):
    for phase in range(1, 12):
        share = env.shares(name, phase, 0.5)
        assert share.sum() == pytest.approx(1) and share[-1] == pytest.approx(1 / 1.5)
    assert env.shares(name, 5, 0.0).tolist() == env.shares("sequential", 5, 0.0).tolist()


def test_counts_are_whole_and_complete():
    for total in (7, 64, 14400):
        count = env.counts(env.shares("exponential", 9, 0.5), total)
        assert count.sum() == total and np.abs(count - total * env.shares("exponential", 9, 0.5)).max() < 1


# --- images and lessons


def test_pooling_is_the_mean_of_squares():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    pooled = data.vectors(images, 0, 2).reshape(3, 14, 14)
    assert abs(float(pooled[1, 3, 4]) - images[1, 6:8, 8:10].mean()) <= 0.5
    assert data.vectors(images, 2, 1).shape == (3, 1024)


def test_a_lesson_has_the_counts_of_its_environment():
    world = make_world(arrays(), (3, 4), 3, 40, 20, "cpu", tuning=False)
    counts = [np.array([10, 20, 34]), np.array([0, 0, 64])]
    lesson = draw_lesson(world, [3, 4], counts, 2, [2, 2], 8)
    rows = lesson.rows.unflatten(1, (2, 8))
    for member, (seat, count) in enumerate(zip((0, 1), counts, strict=True)):
        task = rows[:, member].flatten() // 40 - 3 * seat
        assert torch.bincount(task, minlength=3).tolist() == count.tolist()
        assert bool((lesson.new[:, member].flatten() == (task == 2)).all())
        image = rows[:, member].flatten() % 40
        assert bool((lesson.labels[:, member].flatten() == world.labels[seat][image.long()]).all())
    new = rows[:, 0].flatten()[lesson.new[:, 0].flatten()]
    assert len(new.unique()) == len(new)  # no image twice before all have been shown


def test_tasks_are_permutations_of_the_same_images():
    source = arrays()
    world = make_world(source, (3,), 3, 40, 20, "cpu", tuning=False)
    first, second = world.images.unflatten(0, (3, 40))[:2]
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(1).values, second.sort(1).values)
    held_out = make_world(source, (3,), 3, 40, 20, "cpu", tuning=True).exam_images[0, 0]
    assert not (held_out[:, None] == first).all(2).any()


# --- network


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_and_outputs_are_those_of_torch(batch_norm):
    network = networks(batch_norm)
    images, labels = batch()
    outputs = cross_entropy_step(network, images, labels).clone()
    for member in range(MEMBERS):
        reference = module(network, member)
        expected = reference(images[member])
        nn.functional.cross_entropy(expected, labels[member]).backward()
        torch.testing.assert_close(outputs[member].T, expected, atol=1e-5, rtol=1e-4)
        grads = {name: value[member] for name, value in network.grads.items()}
        linears = [layer for layer in reference if isinstance(layer, nn.Linear)]
        for layer, linear in enumerate(linears):
            torch.testing.assert_close(grads[f"weight{layer}"], linear.weight.grad, atol=1e-5, rtol=1e-3)
        norms = [layer for layer in reference if isinstance(layer, nn.BatchNorm1d)]
        for layer, norm in enumerate(norms):
            torch.testing.assert_close(grads[f"scale{layer}"][:, 0], norm.weight.grad, atol=1e-5, rtol=1e-3)
            torch.testing.assert_close(network.running[f"variance{layer}"][member, :, 0], norm.running_var)


def test_dropout_gradients_match_finite_differences():
    network = networks(dropout=0.4)
    images, labels = batch()

    def loss() -> float:
        streams = [generator(i, "dropout") for i in range(MEMBERS)]
        logs = torch.log_softmax(network.forward(images, streams), 1)
        return float(-logs.gather(1, labels.unsqueeze(1)).mean(2).sum())

    cross_entropy_step(network, images, labels)
    steepest = int(network.flat_grad.abs().argmax())
    expected, step = float(network.flat_grad[steepest]), 1e-2
    network.flat[steepest] += step
    above = loss()
    network.flat[steepest] -= 2 * step
    assert (above - loss()) / (2 * step) == pytest.approx(expected, rel=0.02)


def test_examinations_are_without_dropout_and_batch_statistics():
    network = networks(batch_norm=True, dropout=0.5)
    images, labels = batch()
    cross_entropy_step(network, images, labels)
    together = network.forward(images).clone()
    alone = network.forward(images[:, :1])
    torch.testing.assert_close(together[:, :, :1], alone)
    reference = module(network, 0)
    for layer, norm in enumerate([part for part in reference if isinstance(part, nn.BatchNorm1d)]):
        norm.running_mean = network.running[f"mean{layer}"][0, :, 0]
        norm.running_var = network.running[f"variance{layer}"][0, :, 0]
    torch.testing.assert_close(together[0].T, reference.eval()(images[0]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_fisher_information_is_that_of_single_examples(batch_norm):
    network = networks(batch_norm)
    images, _ = batch()
    information = network.views(network.fisher(images))
    reference = module(network, 1).eval()
    params = dict(reference.named_parameters())
    expected = {name: torch.zeros_like(value) for name, value in params.items()}
    for image in images[1]:
        logs = torch.log_softmax(functional_call(reference, params, (image[None],)), 1)[0]
        for log in logs:
            grads = torch.autograd.grad(log, params.values(), retain_graph=True)
            for name, grad in zip(params, grads, strict=True):
                expected[name] += log.exp().detach() * grad**2 / BATCH
    linears = [name for name, layer in reference.named_children() if isinstance(layer, nn.Linear)]
    for layer, name in enumerate(linears):
        torch.testing.assert_close(information[f"weight{layer}"][1], expected[f"{name}.weight"], atol=1e-7, rtol=1e-3)
        torch.testing.assert_close(information[f"bias{layer}"][1, :, 0], expected[f"{name}.bias"], atol=1e-7, rtol=1e-3)
    norms = [name for name, layer in reference.named_children() if isinstance(layer, nn.BatchNorm1d)]
    for layer, name in enumerate(norms):
        scale = information[f"scale{layer}"][1, :, 0]
        torch.testing.assert_close(scale, expected[f"{name}.weight"], atol=1e-7, rtol=1e-3)


# --- regularisers


def test_elastic_weights_pull_with_the_gradient_of_their_penalty():
    network = networks()
    images, _ = batch()
    strengths = torch.tensor([1.0, 2.0, 0.0])
    penalty = regularisers.ElasticWeights(network, strengths)
    anchors = []
    for _ in range(2):
        anchors.append((network.fisher(images), network.flat.clone()))
        penalty.end_task(images)
        network.flat.add_(torch.randn(network.flat.shape, generator=generator(0, "move")) * 0.1)
    theta = network.flat.clone().requires_grad_()
    loss = sum((network.spread(strengths) * fisher * (theta - anchor) ** 2).sum() / 2 for fisher, anchor in anchors)
    loss.backward()
    network.flat_grad.zero_()
    penalty.before_update()
    torch.testing.assert_close(network.flat_grad, theta.grad, atol=1e-6, rtol=1e-3)


def test_path_integral_measures_the_fall_of_a_quadratic_loss():
    network = networks()
    penalty = regularisers.PathIntegral(network, torch.full((MEMBERS,), 0.5), damping=0.1)
    curvature = torch.rand(network.flat.shape, generator=generator(0, "curvature"))
    start = network.flat.clone()
    penalty.begin_task(0)
    for _ in range(2000):
        network.flat_grad.copy_(curvature * network.flat)
        penalty.before_update()
        network.flat.sub_(0.001 * network.flat_grad)
        penalty.after_update()
    fall = curvature * (start.square() - network.flat.square()) / 2
    torch.testing.assert_close(penalty.path, fall, atol=1e-4, rtol=0.01)
    penalty.end_task(torch.empty(0))
    torch.testing.assert_close(penalty.precision, fall / ((network.flat - start) ** 2 + 0.1), atol=1e-3, rtol=0.01)


def test_distillation_is_the_gradient_of_the_softened_divergence():
    network, teacher = networks(), networks()
    images, _ = batch()
    distillation = regularisers.Distillation(network, torch.full((MEMBERS,), 3.0), temperature=2.0)
    distillation.begin_task(1)
    network.flat.add_(0.1)
    outputs = network.forward(images).clone()
    error = distillation.output_error(images, outputs, torch.zeros_like(outputs))
    free = outputs.clone().requires_grad_()
    taught = torch.softmax(teacher.forward(images) / 2, 1)
    divergence = -(taught * torch.log_softmax(free / 2, 1)).sum(1).mean(1).sum()
    (3.0 * 1 * 4 * divergence / 2).backward()
    torch.testing.assert_close(error, free.grad, atol=1e-6, rtol=1e-3)


# --- training


def learner(members: list[train.Member], settings) -> train.Learner:
    return train.Learner(train.Cohort(tuple(members), 6, 0.5, settings.tasks), settings, 9, "cpu")


def lesson_for(members: list[train.Member], world, phase: int):
    counts = [member.counts(phase, 3, 0.5, 48) for member in members]
    return draw_lesson(world, [m.seed for m in members], counts, phase, [m.newest(phase) for m in members], 8)


def test_a_member_in_company_is_the_member_alone():
    world = make_world(arrays(), (0, 1), 3, 40, 20, "cpu", tuning=False)
    company = [train.Member(seed, name) for seed in (0, 1) for name in ("sequential", "powerlaw", "joint")]
    together, alone = learner(company, environments()), learner(company[4:5], environments())
    for phase in range(3):
        together.learn(phase, world, lesson_for(company, world, phase))
        alone.learn(phase, world, lesson_for(company[4:5], world, phase))
    for name, value in alone.network.params.items():
        torch.testing.assert_close(together.network.params[name][4], value[0], atol=1e-5, rtol=1e-4)


def test_learning_is_that_of_torch_adam():
    world = make_world(arrays(), (0,), 3, 40, 20, "cpu", tuning=False)
    member = train.Member(0, "sequential")
    ours = learner([member], environments())
    lesson = lesson_for([member], world, 0)
    reference = nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 10))
    for layer, linear in enumerate(reference[::2]):
        linear.weight.data = ours.network.params[f"weight{layer}"][0].clone()
        linear.bias.data = ours.network.params[f"bias{layer}"][0, :, 0].clone()
    adam = torch.optim.Adam(reference.parameters(), lr=0.01)
    for rows, labels in zip(lesson.rows, lesson.labels, strict=True):
        adam.zero_grad()
        nn.functional.cross_entropy(reference(world.images[rows.long()] / 255), labels[0]).backward()
        adam.step()
    ours.learn(0, world, lesson)
    torch.testing.assert_close(ours.network.params["weight1"][0], reference[2].weight.data, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", ["ewc", "si"])
def test_a_vanishing_strength_protects_nothing(method):
    world = make_world(arrays(), (0,), 3, 40, 20, "cpu", tuning=False)
    settings = Regularisers(experiment="regularisers", **PROTOCOL, **TUNED)
    protected = learner([train.Member(0, "sequential", method, 0.0)], settings)
    naive = learner([train.Member(0, "sequential")], environments())
    for phase in range(2):
        lesson = lesson_for([train.Member(0, "sequential")], world, phase)
        for one in (protected, naive):
            one.learn(phase, world, lesson)
            one.finish(world, lesson)
    assert torch.equal(protected.network.flat, naive.network.flat)


def test_examinations_count_right_answers():
    world = make_world(arrays(), (0, 1), 3, 40, 20, "cpu", tuning=False)
    one = learner([train.Member(0, "joint"), train.Member(1, "joint")], environments())
    got = one.examine(world, [2, 0])
    for member, task in ((0, 2), (1, 0)):
        images = world.exam_images[member, task].float()[None] / 255
        outputs = one.network.forward(images.expand(2, -1, -1))[member]
        assert got[member] == pytest.approx(float((outputs.argmax(0) == world.exam_labels[member]).float().mean()))


def test_trials_are_counted_to_the_end_of_the_first_good_window():
    settings = environments()  # window of 8, criterion 0.5, batches of 8
    right = torch.zeros(6, 2, 8, dtype=torch.bool)
    right[2:, 0] = True  # examples from 16 on: the window of 12..19 is the first with 4 right answers
    trials = train.trials_to_criterion(right, torch.ones_like(right), settings)
    assert trials[0] == 20 / 8 and trials[1] == torch.inf


class FakeFolder:
    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return arrays()


def run_once(tmp_path, settings, interrupt: bool = False) -> pd.DataFrame:
    config = RunConfig("power_law_interference", "smoke", "run", "row", settings, (0, 1), "cpu")
    if interrupt:
        with pytest.raises(KeyboardInterrupt):
            train.train(config, FakeFolder(), Interrupted(config, tmp_path / "state", "x", save_seconds=0.0))
    run = Run(config, tmp_path / "state", "x", save_seconds=0.0)
    train.train(config, FakeFolder(), run)
    run.publish(tmp_path / "out", {})
    return pd.read_parquet(tmp_path / "out" / "history.parquet")


class Interrupted(Run):
    """Dies in the middle of the second cohort."""

    def log(self, **columns) -> None:
        super().log(**columns)
        self.logged = getattr(self, "logged", 0) + 1
        if self.logged == 9:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["environments", "regularisers"])
def test_an_interrupted_run_ends_bit_for_bit_the_same(tmp_path, kind):
    settings = environments(replay_fractions=[0.5, 1.0], fresh=True)
    if kind == "regularisers":
        grids = {"strengths": {"ewc": [1.0, 3.0], "si": [1.0], "lwf": [0.1]}}
        settings = Regularisers(experiment="regularisers", **PROTOCOL, **{**TUNED, **grids})
    whole = run_once(tmp_path / "whole", settings)
    pd.testing.assert_frame_equal(whole, run_once(tmp_path / "cut", settings, interrupt=True))


# --- measures and statistics


def test_measures_of_a_known_matrix():
    matrix = np.array([[0.9, np.nan, np.nan], [0.7, 0.8, np.nan], [0.5, 0.6, 0.9]])
    measured = probe.measures(matrix, 2)
    assert measured["average_accuracy"] == pytest.approx(2 / 3)
    assert measured["forgetting"] == pytest.approx(((0.9 - 0.5) + (0.8 - 0.6)) / 2)
    assert measured["backward_transfer"] == pytest.approx((-0.4 - 0.2) / 2)
    weights = np.array([0.1, 0.11]) ** 4
    assert measured["need_accuracy"] == pytest.approx(weights @ [0.5, 0.6] / weights.sum())


def test_fits_recover_the_law_that_made_the_curve():
    lag = np.arange(10.0)
    power, exponential = 0.1 * (1 + lag) ** 0.7, 0.1 * np.exp(0.2 * lag)
    assert claims.power_preference(power[None])[0] > 0 > claims.power_preference(exponential[None])[0]
    _, amplitude, rate = claims.fit(exponential[None], lag)
    assert amplitude[0] == pytest.approx(0.1, rel=1e-3) and rate[0] == pytest.approx(0.2, abs=2e-3)


def test_ascent_is_spearman():
    samples = [np.array([value, value]) for value in (0.1, 0.3, 0.2, 0.5, 0.4)]
    expected = pd.Series([0.1, 0.3, 0.2, 0.5, 0.4]).corr(pd.Series(range(5)), method="spearman")
    assert claims.ascent(*samples, axis=-1) == pytest.approx(expected)


def test_slopes_of_straight_lines():
    np.testing.assert_allclose(claims.slopes(np.array([[1.0, 3, 5], [4, 4, 4]])), [2, 0])
