"""concept_space: renderer, gradients, sampler and statistics against what is known exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import gelu, pad

from ontogeny.errors import ConfigError
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.statistics import Interval
from ontogeny.studies.concept_space import claims, images, trajectories
from ontogeny.studies.concept_space.bench import PlainNetwork
from ontogeny.studies.concept_space.diffusion import Batch, image_share, loss_weight, noise_share
from ontogeny.studies.concept_space.mlp import MlpDenoiser, time_features
from ontogeny.studies.concept_space.sampling import Prompt, asked, embeddings, prompts, sample
from ontogeny.studies.concept_space.settings import Concepts, Images, Mlp, Point, RunSettings, UNet
from ontogeny.studies.concept_space.train import Ensemble, TrainingSet, look_steps
from ontogeny.studies.concept_space.unet import UNetDenoiser
from ontogeny.study import plan

SPEC = Images(pixels=12, sharpness=12.0, position=0.15, background=(0.9, 0.9))
POINT = Point(colour=0.2, size=0.4, mask=0.0, blue=True)
PIXELS = 8


def settings(row: str = "weak", **changes: object) -> Concepts:
    plain = plan("concept_space", "smoke").runs[f"{row}-s0-0"].settings
    return validate(RunSettings, {**plain, **changes}, "test")


def batch(members: int, size: int = 5) -> Batch:
    stream = generator(0, "test")
    clean = torch.rand(members, size, 3 * PIXELS**2, generator=stream, dtype=torch.float64)
    condition = torch.rand(members, size, 4, generator=stream, dtype=torch.float64)
    noise = torch.randn(size, 3 * PIXELS**2, generator=stream, dtype=torch.float64)
    return Batch(clean, condition, noise, torch.linspace(-4, 8, size, dtype=torch.float64))


def networks(members: int, cap: float = 5.0) -> tuple[MlpDenoiser, torch.Tensor]:
    net = MlpDenoiser(Mlp(kind="mlp", width=6, conditioning=4), PIXELS, cap)
    starts = [net.initial(generator(seed, "test"), torch.rand(1, net.image)) for seed in range(members)]
    return net, (torch.cat(starts).double() * 1.5)


def plain_guess(weights: dict[str, torch.Tensor], noisy: torch.Tensor, gamma: torch.Tensor, condition: torch.Tensor):
    """The network straight from its definition; weights of one member."""
    hidden = gelu(torch.cat([noisy, time_features(gamma)], dim=1) @ weights["w0"])
    for k in (1, 2):
        told = gelu(pad(condition, (0, 1), value=1.0) @ weights[f"a{k}"]) @ weights[f"c{k}"] + weights[f"d{k}"]
        hidden = hidden + gelu(hidden @ weights[f"w{k}"] + told)
    return hidden @ weights["w3"] + weights["b3"]


def plain_loss(weights: dict[str, torch.Tensor], data: Batch, member: int, cap: float) -> torch.Tensor:
    alpha, sigma = image_share(data.gamma)[:, None], noise_share(data.gamma)[:, None]
    noisy = alpha * data.clean[member] + sigma * data.noise
    guess = plain_guess(weights, noisy, data.gamma, data.condition[member])
    return (loss_weight(data.gamma, cap)[:, None] * (guess - data.clean[member]).square()).mean()


def test_gradients_by_hand_are_those_of_automatic_differentiation():
    net, flat = networks(2)
    data = batch(2)
    losses, grads = net.gradient(flat, data)
    for member in range(2):
        leaf = flat[member : member + 1].clone().requires_grad_()
        loss = plain_loss({name: value[0] for name, value in net.views(leaf).items()}, data, member, 5.0)
        loss.backward()
        torch.testing.assert_close(losses[member], loss.detach())
        torch.testing.assert_close(grads[member], leaf.grad[0])


def test_the_uncapped_loss_is_the_error_of_the_noise():
    net, flat = networks(1, cap=1e9)
    data = batch(1)
    alpha, sigma = image_share(data.gamma)[:, None], noise_share(data.gamma)[:, None]
    noisy = alpha * data.clean[0] + sigma * data.noise
    weights = {name: value[0] for name, value in net.views(flat).items()}
    implied = (noisy - alpha * plain_guess(weights, noisy, data.gamma, data.condition[0])) / sigma
    torch.testing.assert_close(net.gradient(flat, data)[0][0], (implied - data.noise).square().mean())


def test_generating_uses_the_network_that_is_trained():
    net, flat = networks(2)
    data = batch(2)
    told = net.embed(flat, data.condition)
    gamma = torch.tensor(1.5, dtype=torch.float64)
    ours = net.guess(flat, data.clean, gamma, told)
    for member in range(2):
        weights = {name: value[member] for name, value in net.views(flat).items()}
        theirs = plain_guess(weights, data.clean[member], gamma.expand(5), data.condition[member])
        torch.testing.assert_close(ours[member], theirs)


def test_the_unet_predicts_noise_with_gradients_like_finite_differences():
    net = UNetDenoiser(UNet(kind="unet", channels=[8, 16], blocks=1), PIXELS, 1e9)
    flat = net.initial(generator(0, "test"), torch.zeros(2, 3 * PIXELS**2)).double()
    flat += 0.05 * torch.randn(flat.shape, generator=generator(1, "test"), dtype=torch.float64)
    data = batch(2, 3)
    losses, grads = net.gradient(flat, data)
    way = torch.randn(flat.shape, generator=generator(2, "test"), dtype=torch.float64)
    up, down = (net.gradient(flat + sign * 1e-5 * way, data)[0] for sign in (1, -1))
    torch.testing.assert_close((up - down) / 2e-5, (grads * way).sum(1), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        losses[1:], net.gradient(flat[1:], Batch(data.clean[1:], data.condition[1:], data.noise, data.gamma))[0]
    )
    gamma = torch.tensor(0.5, dtype=torch.float64)
    alone = Batch(data.clean, data.condition, data.noise, gamma.expand(3))
    noisy = image_share(gamma) * data.clean + noise_share(gamma) * data.noise
    guess = net.guess(flat, noisy, gamma, net.embed(flat, data.condition))
    implied = (noisy - image_share(gamma) * guess) / noise_share(gamma)
    torch.testing.assert_close((implied - data.noise).square().mean((1, 2)), net.gradient(flat, alone)[0])


def test_a_member_of_the_ensemble_is_the_network_trained_alone():
    chosen = settings()
    together = Ensemble(chosen, 4, "cpu")
    alone = Ensemble(settings(points=[chosen.points[1].model_dump()]), 4, "cpu")
    for _ in range(15):
        losses = together.step(), alone.step()
    torch.testing.assert_close(losses[0][1], losses[1][0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together.parameters[1], alone.parameters[0], rtol=1e-3, atol=1e-5)


def test_the_ensemble_trains_like_torch_adamw():
    chosen = settings()
    ensemble, plain = Ensemble(chosen, 0, "cpu"), PlainNetwork(chosen, 0, "cpu")
    for _ in range(10):
        ensemble.step()
        plain.step()
    for name, value in ensemble.denoiser.views(ensemble.parameters[:1]).items():
        torch.testing.assert_close(value[0], plain.weights[name].detach(), rtol=1e-3, atol=1e-5)


class Oracle:
    """Knows the clean image: a delta distribution at `image`."""

    embedding = 1

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def guess(self, flat: torch.Tensor, noisy: torch.Tensor, gamma: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        return self.image.expand_as(noisy)


class Gaussian(Oracle):
    """Images normal with mean `image` and standard deviation 0.3: the guess is linear in z."""

    def guess(self, flat: torch.Tensor, noisy: torch.Tensor, gamma: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        alpha, power = image_share(gamma), 0.09 * torch.sigmoid(-gamma) + torch.sigmoid(gamma)
        return self.image + 0.09 * alpha / power * (noisy - alpha * self.image)


def test_the_sampler_draws_what_the_guess_knows():
    image, start = torch.rand(1, 12), torch.randn(6, 12, generator=generator(0, "test"))
    told = torch.zeros(1, 6, 1)
    drawn = sample(Oracle(image), torch.zeros(1, 1), settings(sampler_steps=7), start, told)
    torch.testing.assert_close(drawn[0], image.expand(6, -1))
    # the probability flow of a Gaussian scales the noise by its standard deviation, up to the noise left at the end
    fine = sample(Gaussian(image), torch.zeros(1, 1), settings(sampler_steps=400), start, told)
    final = torch.tensor(settings().gamma[0])
    left = torch.sigmoid(final) / (0.09 * torch.sigmoid(-final) + torch.sigmoid(final))  # of the variance
    torch.testing.assert_close(fine[0] - image, 0.3 * (1 - left).sqrt() * start, rtol=0.01, atol=0.01)


def test_circles_have_the_area_and_the_colour_that_they_should():
    factors = torch.zeros(4, images.FACTORS)
    means = images.class_means(POINT)
    fine = SPEC.model_copy(update={"pixels": 200})
    blueness, radius = images.read(images.render(means, factors, fine), POINT.colour, fine)
    torch.testing.assert_close(radius, means[:, 3], atol=0.004, rtol=0)  # a logistic edge: area pi (r^2 + pi^2 / 3 s^2)
    torch.testing.assert_close(blueness.sign(), 2.0 * images.BLUE - 1)
    blue, small = images.coordinates(images.render(means, factors, fine), POINT, fine)
    torch.testing.assert_close(small, images.SMALL.float(), atol=0.02, rtol=0)
    # the soft edge is part background, which has no colour, and is counted by its share of circle: half the edge's tint
    assert bool((blue[2:] > 0.75).all()) and bool((blue[:2] < 0.25).all())


def test_the_read_out_is_right_on_true_images_and_under_noise():
    factors = images.draw_factors(2000, generator(0, "test"))
    classes = torch.arange(2000) % 4
    clean = images.render(images.conditions(classes, factors, POINT), factors, SPEC)
    for noise in (0.0, 0.03):
        noisy = clean + noise * torch.randn(clean.shape, generator=generator(1, "test"))
        blue, small = images.coordinates(noisy, POINT, SPEC)
        assert ((blue > 0.5) == images.BLUE[classes].bool()).float().mean() > 0.99
        assert ((small > 0.5) == images.SMALL[classes].bool()).float().mean() > 0.99


def test_the_signal_of_colour_is_the_share_of_changed_pixels():
    fine = SPEC.model_copy(update={"pixels": 100})
    colour, _ = images.signal(POINT, fine)
    area = np.pi * (0.65**2 + np.pi**2 / (3 * fine.sharpness**2)) / 4  # of the image that a large circle covers
    assert colour == pytest.approx(2 / 3 * POINT.colour * area, rel=0.01)  # red and blue change, green does not
    doubled, _ = images.signal(POINT.model_copy(update={"colour": 2 * POINT.colour}), fine)
    assert doubled == pytest.approx(2 * colour, rel=1e-3)


def test_training_sets_withhold_what_they_should():
    chosen = settings(points=[
        POINT.model_dump(), POINT.model_dump() | {"mask": 0.5}, POINT.model_dump() | {"blue": False},
    ], unnamed=0.5)  # fmt: skip
    told = TrainingSet(chosen, 0, "cpu").conditions
    count = chosen.images_per_class
    blue, small = told[:, :, 2] > told[:, :, 0], told[:, :, 3] < 0.45
    assert not (blue & small).any()  # the held-out class
    assert int(blue[0].sum()) == count and int(small[0].sum()) == count
    assert not blue[2].any()
    unnamed = (told[1, :, :3] == 0.5).all(dim=1)
    assert int(unnamed.sum()) == count // 2 and bool(small[1][unnamed].all())


def test_prompts_ask_for_what_they_say():
    means = images.class_means(POINT)
    torch.testing.assert_close(means[3], torch.tensor([0.4, 0.4, 0.6, 0.25]))
    torch.testing.assert_close(asked(Prompt("over", 0.9, 0), POINT), torch.tensor([0.05, 0.05, 0.95, 0.25]))
    torch.testing.assert_close(asked(Prompt("under", 0.5, 0), POINT), torch.tensor([0.45, 0.45, 0.55, 0.25]))
    torch.testing.assert_close(asked(Prompt("10", 1.0, 0), POINT), torch.tensor([0.4, 0.4, 0.6, 0.65]))


def test_shifts_go_along_the_colour_direction_and_placebos_as_far():
    net, flat = networks(1)
    flat = flat.float()
    ways = [Prompt("plain", 1.0, 0), Prompt("latent", 2.0, 0), Prompt("random", 2.0, 0)]
    told = embeddings(net, flat, [POINT], ways, 0)[0]
    means = net.embed(flat, images.class_means(POINT)[None])[0]
    torch.testing.assert_close(told[0], means[3])
    torch.testing.assert_close(told[1] - told[0], 2 * (means[2] - means[0]))
    torch.testing.assert_close((told[2] - told[0]).norm(), (told[1] - told[0]).norm())


def test_arrival_needs_success_that_lasts():
    steps = np.arange(10, 210, 10)
    late = np.where(steps >= 100, 1.0, 0.0)
    assert trajectories.arrival(steps, late) in (100, 110)
    flash = late + (steps == 40)
    assert trajectories.arrival(steps, flash) == trajectories.arrival(steps, late)
    assert np.isnan(trajectories.arrival(steps, np.where(steps >= 200, 1.0, 0.0)))
    assert np.isnan(trajectories.arrival(steps, np.zeros(20)))


def corner_path(rest: int) -> np.ndarray:
    up = np.stack([np.zeros(20), np.linspace(0, 1, 20)], axis=1)
    return np.concatenate(
        [up, np.tile([[0.0, 1.0]], (rest, 1)), np.stack([np.linspace(0, 1, 20), np.ones(20)], axis=1)]
    )


@pytest.mark.parametrize("rest", [0, 15])
def test_a_path_round_a_corner_turns_there(rest: int):
    path = corner_path(rest)
    assert 17 <= trajectories.turn(path) <= 21 + rest
    assert np.abs(trajectories.departure(path)).max() == pytest.approx(2**-0.5)
    assert trajectories.area(path) == pytest.approx(-0.5, abs=0.04)
    assert trajectories.area(path[:, ::-1]) == pytest.approx(0.5, abs=0.04)


def test_a_straight_path_encloses_nothing():
    path = np.stack([np.linspace(0, 1, 30), np.linspace(0, 1, 30)], axis=1)
    assert trajectories.area(path) == pytest.approx(0, abs=1e-12)
    assert np.abs(trajectories.departure(path)).max() == pytest.approx(0, abs=1e-12)


def test_independent_learning_follows_its_closed_form():
    assert trajectories.independent_area(np.array([1.0]), 0.05)[0] == pytest.approx(0, abs=1e-9)
    there, back = trajectories.independent_area(np.array([2.5, 0.4]), 0.05)
    assert there == pytest.approx(-back)
    far = trajectories.independent_area(np.array([1e3]), 0.05)[0]  # round the corner: the triangle above the start
    assert far == pytest.approx(0.5 * (1 - 0.05) ** 2, abs=0.01)


def test_factors_are_chosen_on_the_other_seeds():
    rows = [
        {**POINT.model_dump(), "seed": seed, "budget": 99, "kind": "latent", "strength": factor, "time": time}
        for seed, found in enumerate([(10.0, 50.0), (40.0, 20.0), (np.nan, 30.0)])
        for factor, time in zip((1.0, 2.0), found, strict=True)
    ]
    tables = {"arrivals": pd.DataFrame(rows)}
    # medians over the others: seed 0: (69.5, 25), seed 1: (54.5, 40), seed 2: (25, 35) -> factors 2, 2, 1
    assert claims.chosen_times(tables, "latent").tolist() == [50.0, 20.0, 99.0]


def test_variation_of_equal_tables_does_not_differ():
    table = pd.DataFrame(np.random.default_rng(0).uniform(1, 2, (8, 3)))
    same = claims.variation(Interval(0.95), table, table)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    scaled = claims.variation(Interval(0.95), 10 * table, table)
    assert scaled.value == pytest.approx(0)
    wider = claims.variation(Interval(0.95), table**3, table)
    assert wider.value > 0.1


def test_looks_are_even_in_the_root():
    steps = look_steps(settings(steps=400, first_look=4, looks=10))
    assert steps[0] == 4 and steps[-1] == 400
    assert np.ptp(np.diff(np.sqrt(steps))) < 0.2


def test_best_of_as_many():
    ways = prompts(settings("weak"))
    assert sum(way.kind == "plain" for way in ways) == sum(way.kind == "over" for way in ways)


@pytest.mark.parametrize("change, message", [
    ({"points": [{"colour": 0.0, "size": 0.4, "mask": 0, "blue": True}]}, "greater than 0"),
    ({"points": [{"colour": 0.9, "size": 0.4, "mask": 0, "blue": True}]}, "less than or equal to 0.8"),
    ({"points": [{"colour": 0.2, "size": 0.5, "mask": 0, "blue": True}]}, "less than or equal to 0.4"),
    ({"points": [{"colour": 0.2, "size": 0.4, "mask": 1.5, "blue": True}]}, "less than or equal to 1"),
    ({"points": [POINT.model_dump()] * 2}, "a point is listed twice"),
    ({"gamma": [3, 3]}, "the range is empty"),
    ({"first_look": 40}, "comes after the last step"),
    ({"over_prompts": [1.2]}, "less than or equal to 1"),
    ({"latent_scales": [0]}, "greater than 0"),
    ({"images": {"pixels": 12, "sharpness": 12, "position": 0.1, "background": [0.3, 0.9]}}, "lighter than any circle"),
    ({"denoiser": {"kind": "unet", "channels": [8, 12], "blocks": 1}}, "multiple of 8"),
    ({"denoiser": {"kind": "unet", "channels": [8, 8, 8], "blocks": 1},
      "images": {**SPEC.model_dump(), "pixels": 10}}, "multiple of 4"),
])  # fmt: skip
def test_values_outside_their_domain_are_refused(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        settings(**change)
