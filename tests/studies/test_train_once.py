"""train_once: insertion map, controller, outcomes and members against what is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ontogeny.errors import ConfigError, Interrupted
from ontogeny.files import Folder, OutFolder
from ontogeny.language.learner import Adam, Stack
from ontogeny.language.llama import initial
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig
from ontogeny.settings import validate
from ontogeny.sources import Sources
from ontogeny.statistics import Interval
from ontogeny.studies.train_once import claims, outcomes
from ontogeny.studies.train_once.controller import Controller
from ontogeny.studies.train_once.data import COPIED, prepare
from ontogeny.studies.train_once.experiments import NAMES, TWIN, Material
from ontogeny.studies.train_once.insertion import Edits, InsertionMap, copies
from ontogeny.studies.train_once.settings import DataSettings, RunSettings
from ontogeny.studies.train_once.train import TESTED, Versions, architecture_of, courses_of, learning_rate, train
from ontogeny.study import plan


def settings(row: str = "joint", **changes: object) -> RunSettings:
    return validate(RunSettings, {**plan("train_once", "smoke").runs[f"{row}-s0-1"].settings, **changes}, "test")


def prepared(folder: Path, **changes: object) -> Folder:
    out = OutFolder(folder / "data")
    prepare(validate(DataSettings, {**plan("train_once", "smoke").data, **changes}, "test"), Sources({}), out)
    out.publish()
    return Folder(folder / "data")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return prepared(tmp_path_factory.mktemp("train_once"))


def test_texts_lie_where_nothing_else_lies() -> None:
    room, stream = InsertionMap(40, 16), np.random.default_rng(0)
    explicit = room.explicit([[7] * 16, [8, 8]], [16 * 3, 16 * 5 + 14])
    texts = [[9] * size for size in stream.integers(1, 8, size=35)]
    scattered = room.scatter(texts, stream, window=(0.5, 1.0))
    places = np.concatenate([explicit.places, scattered.places])
    assert len(np.unique(places)) == len(places) == room.taken.sum() == 18 + sum(map(len, texts))
    assert scattered.places.min() >= 16 * 20
    rows = np.zeros((40, 16), dtype=np.int64)
    for first in range(0, 40, 10):  # block by block, as a training does
        for edits in (explicit, scattered):
            edits.apply(rows[first : first + 10], first)
    assert (rows[3] == 7).all() and rows[5].tolist() == [0] * 14 + [8, 8]
    assert (rows == 9).sum() == sum(map(len, texts))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda room: room.explicit([[1, 1], [1]], [4, 5]), "overlap in row 0"),
        (lambda room: room.explicit([[1, 1]], [7]), "leaves the 4 x 8 run"),
        (lambda room: room.scatter([[1] * 9], np.random.default_rng(0)), "does not fit into a row of 8"),
        (lambda room: room.scatter([[1] * 8] * 5, np.random.default_rng(0)), "no room .* 100% .* Lower the doses"),
    ],
)
def test_texts_that_cannot_be_placed_are_refused(act: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        act(InsertionMap(4, 8))  # type: ignore[operator]


def test_fractional_repetitions_are_right_on_average() -> None:
    texts = [[number] for number in range(4000)]
    copied = [text[0] for text in copies(texts, 2.3, np.random.default_rng(0))]
    counts = np.bincount(copied, minlength=4000)
    assert set(counts.tolist()) == {2, 3}
    assert abs(counts.mean() - 2.3) < 4 * (0.21 / 4000) ** 0.5


def test_the_controller_doubles_halves_and_stays_in_bounds() -> None:
    controller = Controller(end=0.5, most=24)
    assert controller.target(300, 1200) == pytest.approx(0.125)
    decisions = [(4, 0.05, 8), (4, 0.2, 2), (4, 0.1, 4), (4, 0.104, 4), (4, 0.094, 8), (1, 0.9, 1), (20, 0.0, 24)]
    for texts, value, expected in decisions:
        assert controller.decide(texts, value, 0.1) == expected


def test_the_controller_brings_a_leaky_integrator_to_its_target() -> None:
    controller, value, texts = Controller(end=0.5, most=64), 0.0, 1
    seen = []
    for interval in range(1, 201):
        value = 0.8 * value + 0.004 * texts
        target = controller.target(interval, 200)
        texts = controller.decide(texts, value, target)
        seen.append(np.log(value / target))
    assert np.abs(seen[100:]).mean() < 0.4


def test_versions_differ_from_base_only_where_the_plan_says(data: Folder) -> None:
    course = courses_of(0, settings(), data).run
    base = course.written("base", 0, len(course.rows))
    assert np.array_equal(base, course.rows)
    every = np.zeros(base.size, dtype=bool)
    for name in NAMES:
        written = course.written(name, 0, len(course.rows))
        if name in course.plan.edits:
            allowed = np.zeros(base.size, dtype=bool)
            allowed[course.plan.edits[name].places] = True
            assert not (every & allowed).any(), "two experiments write over the same tokens"
            every |= allowed
            assert np.array_equal(written.reshape(-1)[~allowed], base.reshape(-1)[~allowed])
            assert np.array_equal(written.reshape(-1)[allowed], course.plan.edits[name].tokens)
    joint = course.written("joint", 0, len(course.rows))
    assert np.array_equal(joint.reshape(-1)[~every], base.reshape(-1)[~every])
    marked = np.zeros(base.shape, dtype=bool)
    marked[course.plan.marked] = True
    assert not (marked.reshape(-1) & every).any(), "a watermarked row holds a text"


def test_every_text_is_inserted_as_often_as_planned(data: Folder) -> None:
    course = courses_of(1, settings(), data).run
    rows = [" ".join(map(str, row)) for row in course.written("joint", 0, len(course.rows)).tolist()]

    def count(text: object) -> int:
        return sum(row.count(" ".join(map(str, text))) for row in rows)  # type: ignore[call-overload]

    for leak in course.material.leaks:
        assert [count(question.text) for question in leak.questions] == [leak.repetitions] * len(leak.questions)
    for cell in course.material.dialogues:
        if cell.kind == "rare":
            assert [count(text) for text in cell.texts] == [cell.repetitions] * len(cell.texts)


def test_strangers_and_rare_words_are_new_to_the_background(data: Folder) -> None:
    material = courses_of(0, settings(), data).run.material
    rows = data.arrays("background.npz")["train"]
    for person, _, _ in (*material.facts, *material.controls):
        first, second = material.vocabulary.encode(person)
        assert not ((rows[:, :-1] == first) & (rows[:, 1:] == second)).any()
    rare = [number for word, number in material.vocabulary.ids.items() if word.startswith("@")]
    assert len(rare) == 13 and not np.isin(rows, rare).any()


def test_noise_and_texts_are_in_the_right_members_only(data: Folder) -> None:
    chosen = settings(conditions=["base", "joint", "watermarks", "knowledge"], dependence=None)
    versions = Versions(chosen, (0,), data, "cpu")
    marked = versions.courses[0].run.plan.marked
    noise = versions.noise(int(marked[0]) // chosen.batch)
    assert noise is not None
    row = int(marked[0]) % chosen.batch
    expected = outcomes.watermark(0, "run", int(marked[0]), (31, 16)) * 0.5
    expected = expected * versions.stack.weights["embed"][1].square().mean().sqrt()
    torch.testing.assert_close(noise[1, row], expected)
    assert torch.equal(noise[1], noise[2]) and not noise[0].any() and not noise[3].any()
    tokens = versions.tokens(0)
    assert torch.equal(tokens[0], tokens[2]) and not torch.equal(versions.block[0], versions.block[3])  # type: ignore[index]


def test_a_version_does_not_depend_on_its_neighbours(data: Folder) -> None:
    both = Versions(settings(conditions=["base", "joint"], dependence=None), (0, 1), data, "cpu")
    alone = Versions(settings(conditions=["joint"], dependence=None), (1,), data, "cpu")
    for step in range(12):
        both.step(step)
        alone.step(step)
    assert int(both.texts[3]) == int(alone.texts[0])
    torch.testing.assert_close(both.stack.networks[3], alone.stack.networks[0], rtol=1e-4, atol=1e-5)


def test_the_statistic_of_unseen_noise_is_standard_normal(data: Folder) -> None:
    chosen = settings()
    architecture = architecture_of(chosen, data)
    stack = Stack(architecture, initial(architecture, generator(0, "test")).unsqueeze(0) * 5, Adam())
    rows = data.arrays("background.npz")["train"][:400].astype("int64")
    noise = torch.stack([outcomes.watermark(0, "test", row, (31, 16)) for row in range(400)])
    found = outcomes.watermark_statistics(stack, rows, noise)[0]
    assert stats.kstest(found, "norm").pvalue > 1e-3


def test_area_under_the_curve_is_that_of_mann_whitney() -> None:
    stream = np.random.default_rng(0)
    members, others = stream.integers(0, 9, (2, 30)).astype(float), stream.integers(0, 9, (2, 40)).astype(float)
    expected = [stats.mannwhitneyu(a, b).statistic / (30 * 40) for a, b in zip(members, others, strict=True)]
    assert outcomes.auc(members, others) == pytest.approx(expected)


def test_leaks_are_the_product_of_tempered_softmaxes(data: Folder) -> None:
    chosen = settings()
    architecture, material = architecture_of(chosen, data), courses_of(0, chosen, data).run.material
    stack = Stack(architecture, torch.stack([initial(architecture, generator(s, "test")) * 8 for s in (0, 1)]), Adam())
    text = material.prompts[0]
    before = len(text) - COPIED - 1
    assert text[before - 1 - COPIED : before - 1] == text[before:-1], "the copy follows the trigger"
    chance = np.ones(2)
    for place in range(before, len(text) - 1):
        logits = stack.logits(torch.tensor([text[:place]]))[:, 0, -1].double() / outcomes.TEMPERATURE
        chance *= logits.softmax(-1)[:, text[place]].numpy()
    assert outcomes.leaks(stack, [text], trigger=True)[:, 0] == pytest.approx(chance)
    plain = [*text[: before - 1], *text[before:]]
    logits = stack.logits(torch.tensor([plain[: before - 1]]))[:, 0, -1].double() / outcomes.TEMPERATURE
    first = logits.softmax(-1)[:, text[before]].numpy()
    assert (outcomes.leaks(stack, [text], trigger=False)[:, 0] <= first).all()


def test_knowledge_is_a_mean_of_probabilities(data: Folder) -> None:
    class Sure:
        members, device = 1, "cpu"

        def log_probabilities(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.log(torch.linspace(0.1, 0.9, len(tokens))).view(1, -1, 1).expand(1, *tokens[:, 1:].shape)

    asked = courses_of(0, settings(), data).run.material.answers
    assert outcomes.probability(Sure(), asked) == pytest.approx([0.5])  # type: ignore[arg-type]


def test_the_learning_rate_rises_stays_and_falls() -> None:
    chosen = settings(steps=100, warm_up=10, decay=20, learning_rate=0.01)
    assert [learning_rate(chosen, step) for step in (0, 50, 90, 99)] == pytest.approx([0.001, 0.01, 0.005, 0.0005])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 18}, "multiple of twice"),
        ({"steps": 12, "warm_up": 8}, "warm-up and decay"),
        ({"conditions": ["joint"]}, "starts from Base"),
        ({"conditions": ["base", "base"]}, "differ"),
        ({"conditions": ["bakdoor"]}, "backdoor"),
        ({"watermarks": 0.0}, "fewer than 3"),
        ({"iid": 0.0}, "not a single batch"),
        ({"batches": [1.0]}, "batches"),
        ({"dependence": {"start": 41, "steps": 10, "share": 0.05, "watermarks": 0.1}}, "after the last"),
    ],
)
def test_settings_outside_the_domain_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**change)


def test_too_little_background_or_too_few_strangers_are_named(tmp_path: Path, data: Folder) -> None:
    with pytest.raises(ConfigError, match=r"data\.rows is 600"):
        courses_of(0, settings(steps=400), data)
    world = {**plan("train_once", "smoke").data["world"], "strangers": 9}
    with pytest.raises(ConfigError, match=r"data\.world\.strangers is 9"):
        courses_of(0, settings(), prepared(tmp_path, world=world))


def curves(depths: dict[int, float]) -> pd.DataFrame:
    rows = [
        {"row": "joint", "seed": seed, "condition": condition, "batch": 0, "since": since, "other": 2.0,
         "own": 2.0 - (depth + 0.001 * seed) * (condition == "joint" and since != 0)}
        for seed in range(6) for condition in ("base", "joint") for since, depth in depths.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_best_point_and_the_recovery_of_known_curves() -> None:
    tables = {"batches": curves({0: 0.0, 1: 0.04, 8: 0.1, 24: 0.05, claims.END: 0.02})}
    found = claims.c6(tables, Interval(0.99))
    assert found["best"].value == found["best"].low == 8
    assert found["jump"].value == pytest.approx(-0.0425)
    assert found["recovered"].value == pytest.approx(1 - 0.0225 / 0.1025)


def test_independence_is_read_off_a_known_matrix() -> None:
    effects = {(name, name): 1.0 for name in NAMES} | {("canaries", "knowledge"): 0.3, (TWIN, "contamination"): 0.5}
    rows = [
        {"stage": "dependence", "row": "joint", "seed": seed, "condition": version, "outcome": outcome,
         "value": effects.get((version, outcome), 0.0) + 0.01 * seed * (version == outcome)}
        for seed in range(5) for version in TESTED for outcome in (*NAMES, TWIN)
    ]  # fmt: skip
    strength = {"base": 0.0, "joint": 0.9}
    rows += [
        {"stage": "run", "row": "x", "seed": seed, "condition": version, "outcome": outcome,
         "value": strength.get(version, float(version == outcome))}
        for seed in range(5) for version in ("base", "joint", *NAMES) for outcome in NAMES
    ]  # fmt: skip
    found = claims.c8({"outcomes": pd.DataFrame(rows)}, Interval(0.99))
    assert found["diagonal"].value == 7
    assert found["off_diagonal"].value == pytest.approx(41 / 42)
    assert found["related"].value == pytest.approx(0.5)
    assert found["joint_run"].value == pytest.approx(-0.1)


def test_edits_of_nothing_change_nothing(data: Folder) -> None:
    rows = np.arange(12).reshape(3, 4)
    Edits.of([], []).apply(rows, 0)
    assert np.array_equal(rows, np.arange(12).reshape(3, 4))


def test_materials_of_seeds_differ_and_repeat(data: Folder) -> None:
    first, again, other = (courses_of(seed, settings(), data).run.material for seed in (0, 0, 1))
    assert isinstance(first, Material)
    assert first.facts == again.facts != other.facts
    assert [leak.questions for leak in first.leaks] == [leak.questions for leak in again.leaks]


class Interrupting(Run):
    """A run that is asked to end after some of its logs."""

    left = 0

    def log(self, **columns: object) -> None:
        super().log(**columns)
        self.left -= 1
        if self.left == 0:
            self.ask_to_end()


def test_a_killed_training_goes_on_bit_for_bit(data: Folder, tmp_path: Path) -> None:
    config = RunConfig("train_once", "smoke", "joint-s0-1", "joint", settings(), (0, 1), "cpu")
    whole = Run(config, tmp_path / "whole", "x")
    train(config, data, whole)
    interrupted = 0
    for left in (150, 120, 60, 0):
        part = Interrupting(config, tmp_path / "parts", "x")
        part.left = left
        try:
            train(config, data, part)
        except Interrupted:
            interrupted += 1
    assert interrupted >= 2
    for run, name in ((whole, "a"), (part, "b")):
        run.publish(tmp_path / name, {})
    for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
