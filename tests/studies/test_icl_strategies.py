"""icl_strategies: gradients, ideal predictors, theory and members against what is known exactly."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special

from ontogeny.errors import ConfigError
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.studies.icl_strategies import bayes, complexity, transformer, urns
from ontogeny.studies.icl_strategies.bench import PlainTransformer
from ontogeny.studies.icl_strategies.claims import boundary_of, crossing
from ontogeny.studies.icl_strategies.examination import Answers, Examination
from ontogeny.studies.icl_strategies.probe import settled_at, with_roles
from ontogeny.studies.icl_strategies.settings import RunSettings, Urns
from ontogeny.studies.icl_strategies.train import Ensemble, checkpoint_steps, learning_rate
from ontogeny.study import plan


def settings(**changes: object) -> Urns:
    row = plan("icl_strategies", "smoke").runs["main-s0-1"].settings
    return validate(RunSettings, {**row, **changes}, "test")


def architecture(**changes: object) -> transformer.Architecture:
    sizes = {"vocabulary": 5, "outputs": 4, "width": 8, "layers": 2, "heads": 2, "hidden": 12, "rotary": 2}
    return transformer.Architecture(**{**sizes, "units": "gelu", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("units", ["gelu", "relu"])
@pytest.mark.parametrize(("heads", "rotary"), [(1, 4), (2, 2), (4, 0)])
def test_gradients_are_those_of_finite_differences(units: str, heads: int, rotary: int) -> None:
    chosen, stream = architecture(units=units, heads=heads, rotary=rotary), generator(0, "test")
    flat = torch.randn(2, chosen.parameters, dtype=torch.float64, generator=stream) * 0.3
    tokens = torch.randint(5, (2, 3, 6), generator=stream)
    targets = torch.randint(4, (2, 3, 6), generator=stream)

    def loss(at: torch.Tensor) -> torch.Tensor:
        return transformer.cross_entropy(transformer.forward(chosen, at, tokens)[0], targets)[0]

    logits, tape = transformer.forward(chosen, flat, tokens)
    gradient = transformer.backward(chosen, flat, tape, transformer.cross_entropy(logits, targets)[1])
    for _ in range(5):
        direction = torch.randn(flat.shape, dtype=torch.float64, generator=stream)
        numeric = (loss(flat + 1e-6 * direction) - loss(flat - 1e-6 * direction)) / 2e-6
        torch.testing.assert_close((gradient * direction).sum(1), numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("changes", [{}, {"heads": 2, "layers": 2, "units": "gelu"}])
def test_the_ensemble_trains_like_a_plain_transformer(changes: dict[str, object]) -> None:
    chosen = settings(tasks=[2, 4], **changes)
    ensemble, plain = Ensemble(chosen, (0,), "cpu"), PlainTransformer(chosen, 4, "cpu")
    for step in range(10):
        ensemble.step(step)
        plain.step(step)
    for name, ours in ensemble.architecture.unpack(ensemble.networks[1]).items():
        torch.testing.assert_close(ours, plain.weights[name].detach(), rtol=1e-3, atol=2e-4)


def test_a_network_in_the_ensemble_is_the_network_alone() -> None:
    both, alone = Ensemble(settings(tasks=[2, 4, 8]), (3, 4), "cpu"), Ensemble(settings(tasks=[2, 8]), (4,), "cpu")
    for step in range(20):
        both.step(step)
        alone.step(step)
    torch.testing.assert_close(both.networks[5], alone.networks[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.averaged[5], alone.averaged[1], rtol=1e-4, atol=1e-5)


def test_attention_does_not_look_ahead_and_knows_order() -> None:
    chosen = architecture(layers=1)
    flat = transformer.initial(chosen, generator(0, "test"), 0.5).unsqueeze(0)
    tokens = torch.tensor([[[0, 1, 2, 3], [0, 1, 2, 4], [1, 0, 2, 3]]])
    logits = transformer.forward(chosen, flat, tokens)[0][0]
    torch.testing.assert_close(logits[:, 0, :3], logits[:, 1, :3])
    assert not torch.allclose(logits[:, 0, 2], logits[:, 2, 2])


def test_operations_are_counted_by_hand() -> None:
    # one token: qkv 8 x 24, out 8 x 8, up and down 8 x 12, read-out 8 x 4; it attends to itself in two products of 8
    assert architecture(layers=1).flops(1, 1) == 3 * 2 * (192 + 64 + 96 + 96 + 32 + 2 * 8)


def test_memorising_is_bayes_rule_by_enumeration() -> None:
    tasks = urns.draw_tasks(5, 3, generator(0, "test"))
    symbols = torch.tensor([[2, 0, 2, 1, 1]])
    ours = urns.memorising(tasks, urns.counts_before(symbols, 3))[0]
    for place in range(5):
        weight = torch.stack([task[symbols[0, :place]].prod() for task in tasks])
        torch.testing.assert_close(ours[place], (weight / weight.sum()) @ tasks)


def test_the_compressed_programs_are_the_predictors() -> None:
    tasks, symbols = urns.draw_tasks(4, 3, generator(0, "test")), [0, 2, 2, 1, 2]
    counts = torch.tensor([symbols.count(v) for v in range(3)]).double()
    for program, prior, ideal in (
        (complexity.MEMORISING, tasks.tolist(), urns.memorising(tasks, counts)),
        (complexity.GENERALISING, [1.0] * 3, urns.generalising(counts)),
    ):
        scope: dict[str, object] = {}
        exec(program, scope)
        assert scope["predict"](prior, symbols) == pytest.approx(ideal.tolist())  # type: ignore[operator]


def test_bits_grow_with_the_tasks_and_not_with_symbols_that_are_alike() -> None:
    sizes = [complexity.memorising_bits(urns.draw_tasks(d, 8, generator(0, "test")).numpy()) for d in (16, 32, 64)]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.1)
    assert 0.8 * 32 * 8 * 32 < sizes[2] - sizes[1] <= 32 * 8 * 32  # random mantissas hardly compress
    assert complexity.generalising_bits(8) < sizes[0]


def exact_loss_of_generalising(symbols: int, length: int) -> float:
    """Mean KL(theta || G): expected log loss of G over beta-binomial counts, less the entropy of theta."""
    entropy = special.digamma(symbols + 1) - special.digamma(2)
    total = 0.0
    for t in range(length):
        n = np.arange(t + 1)
        share = special.beta(n + 1, t - n + symbols - 1) / special.beta(1, symbols - 1) * special.comb(t, n)
        p = (n + 1) / (t + symbols)
        total -= symbols * (share * p * np.log(p)).sum()
    return total / length - entropy


def test_generalising_has_its_exact_loss() -> None:
    exact = exact_loss_of_generalising(8, 64)
    assert exact == pytest.approx(0.111, abs=0.003)  # reference level of the set-up
    tasks = urns.draw_tasks(3000, 8, generator(0, "test"))
    uniform = torch.rand(3000, 1, 65, generator=generator(1, "test"))
    symbols = urns.draw_symbols(urns.boundaries_of(tasks).float().unsqueeze(1), uniform)[:, 0]
    given = Examination.of(symbols, tasks, tasks[:8])
    assert given.losses()[1] == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(("count", "level"), [(16, 0.043), (64, 0.064)])
def test_memorising_has_the_reference_loss(count: int, level: float) -> None:
    losses = [
        Examination.of_training_tasks(urns.training_tasks(count, 8, seed), 400, 64, seed, "test").losses()[0]
        for seed in range(4)
    ]
    assert np.mean(losses) == pytest.approx(level, rel=0.1)


def test_sequences_have_the_frequencies_of_their_task() -> None:
    tasks = urns.draw_tasks(3, 4, generator(0, "test"))
    uniform = torch.rand(3000, 101, generator=generator(1, "test"))
    symbols, task = urns.draw_symbols(urns.boundaries_of(tasks).float(), uniform), urns.picked_tasks(uniform, 3)
    for j in range(3):
        frequency = torch.bincount(symbols[task == j].flatten(), minlength=4) / (task == j).sum() / 100
        torch.testing.assert_close(frequency.double(), tasks[j], atol=0.006, rtol=0)
    inputs = urns.inputs_of(symbols, start=4)
    assert (inputs[:, 0] == 4).all()
    assert (inputs[:, 1:] == symbols[:, :-1]).all()
    assert urns.picked_tasks(torch.tensor([0.0, 1 - 2**-24]).unsqueeze(-1), 10**8).max() < 10**8


def test_the_tasks_of_a_small_pool_are_the_first_of_a_large_one() -> None:
    torch.testing.assert_close(urns.training_tasks(4, 8, 1), urns.training_tasks(16, 8, 1)[:4])


def small_examination() -> Examination:
    training = urns.training_tasks(3, 4, 0)
    return Examination.of_training_tasks(training, 20, 8, 0, "test")


def test_a_mixture_is_found_where_it_was_made() -> None:
    given = small_examination()
    made = torch.tensor([0.0, 0.03, 0.4, 0.97, 1.0]).double()
    answers = Answers(given.mixture(made).log(), given)
    curve = tuple(part.numpy() for part in answers.to_mixtures(torch.tensor(bayes.knots(24))))
    found = bayes.best_weight(*curve)
    np.testing.assert_allclose(found, made.numpy(), atol=2e-3)
    assert float(answers.total_variation(torch.tensor(found)).max()) < 1e-3
    relative = answers.relative_distance()[2]
    assert float(relative[0]) == 0
    assert float(relative[-1]) == 1
    assert (relative.diff() > 0).all()


def test_divergences_from_mixtures_by_brute_force() -> None:
    given = small_examination()
    spoken = torch.rand(2, 20, 8, 4, generator=generator(0, "test"), dtype=torch.float64)
    answers = Answers(spoken.log_softmax(-1), given)
    values, slopes = (part.numpy() for part in answers.to_mixtures(torch.tensor(bayes.knots(24))))
    exact = urns.divergence(given.truth, answers.probabilities).mean((1, 2))
    torch.testing.assert_close(answers.from_truth(), exact)
    for weight in (0.013, 0.37, 0.999):
        exact = urns.divergence(answers.probabilities, given.mixture(torch.tensor([weight]).double())).mean((1, 2))
        value, _ = bayes.interpolate(values, slopes, np.full(2, weight))
        np.testing.assert_allclose(value, exact.numpy(), rtol=1e-4)


def cells(count: int = 60) -> bayes.Cells:
    """Cells whose divergence from a mixture is the squared distance of its weight from that of a known theory."""
    rng = np.random.default_rng(0)
    bits_m, step = rng.uniform(2e3, 6e4, count), np.exp(rng.uniform(3, 8, count))
    known = (step, bits_m, np.full(count, 900.0), rng.uniform(0.03, 0.08, count), np.full(count, 0.11))
    blank = bayes.Cells(*known, values=np.zeros((count, 33)), slopes=np.zeros((count, 33)))
    distance = bayes.knots(32) - bayes.Theory(0.65, 0.22, 3.5).weight(blank)[:, None]
    return bayes.Cells(*known, values=distance**2, slopes=2 * distance)


def test_the_fit_finds_the_parameters_that_made_the_cells() -> None:
    found = bayes.fit(cells(), {})
    assert (found.alpha, found.beta, found.gamma) == pytest.approx((0.65, 0.22, 3.5), rel=0.02)
    assert bayes.fit(cells(), {"alpha": 0.0}).alpha == 0
    assert bayes.loss(bayes.fit(cells(), {"beta": 0.0}), cells()) > 10 * bayes.loss(found, cells())


def test_the_slopes_of_the_fit_are_those_of_finite_differences() -> None:
    theory = {"alpha": 0.5, "beta": 0.25, "gamma": 2.0}
    _, slopes = bayes.loss_slopes(bayes.Theory(**theory), cells())
    for name, slope in slopes.items():
        up, down = (
            bayes.loss(bayes.Theory(**{**theory, name: theory[name] * np.exp(e)}), cells()) for e in (1e-5, -1e-5)
        )
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-4)


def test_both_strategies_weigh_the_same_at_the_crossing() -> None:
    theory, known = bayes.Theory(0.6, 0.2, 4.0), cells()
    at = bayes.Cells(**{**vars(known), "step": theory.crossing(known)})
    np.testing.assert_allclose(theory.weight(at), 0.5)
    never = bayes.Cells(**{**vars(known), "loss_m": known.loss_g + 0.01})
    assert np.isinf(theory.crossing(never)).all()


def test_crossings_and_boundaries_of_known_curves() -> None:
    step = np.geomspace(10, 1000, 21)
    line = pd.DataFrame({"step": step, "d_rel": np.log(step / 10) / np.log(100)})
    assert crossing(line) == pytest.approx(100)
    assert np.isnan(crossing(line.assign(d_rel=0.2 * line["d_rel"])))
    assert np.isnan(crossing(line.assign(d_rel=0.6)))
    octave = np.arange(3.0, 9.0)
    assert boundary_of(octave, 1 / (1 + np.exp((octave - 5.3) / 0.7))) == pytest.approx(5.3, abs=1e-3)


def test_the_transient_ends_with_the_slowest_fitted_number_of_tasks() -> None:
    steps = [10, 20, 30, 40, 50]
    curves = {2: [1.0, 0.1, 0, 0, 0], 4: [1.0, 0.5, 0.1, 0, 0], 8: [1.0, 1.0, 1.0, 1.0, 0]}
    frame = pd.concat([
        pd.DataFrame({"row": "main", "hidden": 1, "seed": 0, "tasks": d, "step": steps, "kl_mixture": c, "d_mg": 0.1})
        for d, c in curves.items()
    ])  # fmt: skip
    assert settled_at(frame[frame["tasks"] == 4]) == 30
    done = with_roles(frame)
    assert sorted(done.loc[done["included"], "step"].unique()) == [30, 40, 50]
    assert done.loc[done["fitted"], "tasks"].max() == 4
    assert done.loc[done["fitted"], "step"].max() == 40


def test_schedules() -> None:
    chosen = settings(steps=900, checkpoints=5, first=100, warm_up=10, learning_rate=0.01)
    assert sorted(checkpoint_steps(chosen)) == [100, 225, 400, 625, 900]
    assert learning_rate(chosen, 4) == pytest.approx(0.005)
    assert learning_rate(chosen, 500) == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": [1, 4]}, "tasks.0"),
        ({"tasks": [8, 4]}, "ascend"),
        ({"heads": 3}, "heads must divide"),
        ({"rotary": 3}, "rotary"),
        ({"rotary": 64}, "rotary entries"),
        ({"layers": 0}, "layers"),
        ({"symbols": 1}, "symbols"),
        ({"memory": 1.0}, "memory"),
        ({"steps": 8}, "checkpoints"),
        ({"units": "tanh"}, "gelu"),
    ],
)
def test_settings_outside_the_domain_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**change)


def test_sequences_of_their_own_tasks_carry_no_pool() -> None:
    pooled, own = (Ensemble(settings(mixture=kind, tasks=[2, 4]), (0,), "cpu") for kind in ("fixed", "fresh"))
    frequency = [torch.stack([e.draw(0) for _ in range(20)]).flatten(0, 1).double() for e in (pooled, own)]
    spread = [torch.nn.functional.one_hot(f.long(), 4).double().mean(1).var(0).sum() for f in frequency]
    assert spread[0] != spread[1]
    assert own.draw(0).shape == pooled.draw(0).shape
    assert list(product(*[[0], [2, 4]])) == own.members
