"""outlandish: updates and masks, measuring and statistics against what is known exactly, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ontogeny.errors import ConfigError, DamagedFile
from ontogeny.files import Folder, OutFolder
from ontogeny.language import finetune, pretrained
from ontogeny.language.folders import write_model
from ontogeny.language.learner import Adam, Pretrained
from ontogeny.language.llama import Architecture, initial
from ontogeny.language.vocabulary import Vocabulary
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.sources import Sources
from ontogeny.statistics import Interval
from ontogeny.studies.outlandish import claims, data, texts
from ontogeny.studies.outlandish.laboratory import Laboratory
from ontogeny.studies.outlandish.settings import DataSettings, RunSettings
from ontogeny.study import plan

VOCABULARY = Vocabulary.of(f"word{number}" for number in range(19))
ARCHITECTURE = Architecture(vocabulary=20, width=8, layers=3, heads=2, hidden=12, context=16)


def model_folder(path: Path, architecture: Architecture = ARCHITECTURE) -> Path:
    write_model(path, architecture, initial(architecture, generator(0, "test")) * 10, VOCABULARY)
    return path


def prepared(tmp_path: Path) -> Folder:
    out = OutFolder(tmp_path / "data")
    pretrained.refer(f"folder:{model_folder(tmp_path / 'model')}", Sources(), out)
    out.publish()
    return Folder(tmp_path / "data")


def settings(**changes: object) -> RunSettings:
    row = plan("outlandish", "smoke").runs["main-s0-0"].settings
    return validate(RunSettings, {**row, **changes}, "test")  # type: ignore[no-any-return]


def random_tokens(seed: int) -> torch.Tensor:
    return torch.randint(20, (1, 2, 9), generator=generator(seed, "tokens"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    out = OutFolder(tmp_path_factory.mktemp("toy") / "data")
    content = {"model": "toy", "texts": "generated", "seed": 0, "start": "eos", "toy_steps": 2}
    data.prepare(validate(DataSettings, content, "test"), Sources(), out)
    out.publish()
    return Folder(out.path)


def test_the_start_is_restored_bit_for_bit(tmp_path: Path) -> None:
    model, _ = pretrained.load(prepared(tmp_path), "cpu")
    finetune.let_layers_learn(model, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update, learner = finetune.Update.from_here(model), Pretrained(model, Adam())
    for step in range(3):
        learner.learn(random_tokens(step), 1e-2)
    delta = update.delta()
    assert delta and not any("layers.0." in name or "embed" in name for name in delta)
    after = {name: value.clone() for name, value in update.live.items()}
    update.apply(delta, finetune.ignore_top(finetune.limits_of(delta, [0.5])[0.5]))
    update.apply(delta)
    for name, value in update.live.items():
        torch.testing.assert_close(value, after[name])
    update.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.08, 0.3, 1.0])
def test_masks_are_those_of_sorting(share: float) -> None:
    delta = {"a": torch.randn(13, 7, generator=generator(0, "a")), "b": torch.randn(50, generator=generator(0, "b"))}
    limits = finetune.limits_of(delta, [0.15, share])[share]
    for name, value in delta.items():
        count = round(share * value.numel())
        order = value.abs().flatten().argsort(descending=True)
        expected = value.flatten().clone()
        expected[order[:count]] = 0
        assert torch.equal(finetune.ignore_top(limits)(name, value).flatten(), expected)
        assert torch.equal(finetune.keep_top(limits)(name, value), value - expected.view_as(value))
        clipped = finetune.clip_at(limits)(name, value).abs().flatten()
        assert count == 0 or torch.allclose(clipped[order[:count]], value.abs().flatten()[order[:count]].min())


def test_a_remembered_trunk_changes_nothing(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    learners = []
    for remember in (True, False):
        model, _ = pretrained.load(folder, "cpu")
        finetune.let_layers_learn(model, 1)
        if remember:
            finetune.FrozenTrunk(model, 1)
        learners.append(Pretrained(model, Adam()))
    for step in (0, 1, 0, 0, 1):
        losses = [learner.learn(random_tokens(step), 1e-2) for learner in learners]
        assert torch.equal(*losses)
    assert torch.equal(*(learner.log_probabilities(random_tokens(0)) for learner in learners))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers
def test_adapters_begin_where_the_model_is_and_only_they_learn(tmp_path: Path) -> None:
    model, _ = pretrained.load(prepared(tmp_path), "cpu")
    tokens = random_tokens(0)
    before = Pretrained(model, Adam()).log_probabilities(tokens)
    adapted = Pretrained(finetune.let_adapters_learn(model, 2, seed=0), Adam())
    assert torch.equal(adapted.log_probabilities(tokens), before)
    assert all("lora" in name for name in adapted.trainable)
    first = adapted.learn(tokens, 1e-2)
    for _ in range(5):
        last = adapted.learn(tokens, 1e-2)
    assert last < first


def test_a_keyword_has_the_probability_of_its_tokens(toy: Folder) -> None:
    laboratory = Laboratory(toy, settings(), "cpu", 0)
    prefixes, answers = [[0, 5, 6], [0, 7]], [[8], [9, 10, 11]]
    found = laboratory.log_probability(prefixes, answers)
    for place, (prefix, answer) in enumerate(zip(prefixes, answers, strict=True)):
        with torch.no_grad():
            logs = laboratory.learner.model(input_ids=torch.tensor([prefix + answer])).logits[0].log_softmax(-1)
        expected = sum(logs[len(prefix) - 1 + offset, token] for offset, token in enumerate(answer))
        torch.testing.assert_close(found[place], expected, atol=1e-5, rtol=0)


def test_the_generated_set_is_balanced() -> None:
    items = texts.generate(0).items
    assert len(items) == 240 and len({item.name for item in items}) == 240
    counts = pd.DataFrame([(i.keyword, i.category) for i in items[:60]]).value_counts()
    assert len(counts) == 60
    assert set(pd.Series([i.keyword for i in items[24:48]]).value_counts()) == {2}
    assert texts.generate(0) == texts.generate(0) != texts.generate(1)
    assert texts.from_json(json.loads(json.dumps(texts.generate(0).to_json()))) == texts.generate(0)
    for item in items:
        for group in texts.PREFIXES[item.theme]:
            assert item.keyword not in group


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "the sky is very blue"}, "keyword 'mauve' does not end the text"),
        ({"theme": "colur"}, "theme 'colur' has no prefixes"),
        ({"keyword": None}, "needs name, theme, keyword"),
        ({"plain": "no keyword here"}, "does not end the text 'no keyword here'"),
    ],
)
def test_bad_texts_are_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    good = {"name": "one", "theme": "colour", "keyword": "mauve", "category": "plain", "text": "the sky is mauve."}
    (tmp_path / "good.json").write_text(json.dumps({"items": [good]}))
    assert texts.read(tmp_path / "good.json").items[0].context == "the sky is"
    (tmp_path / "bad.json").write_text(json.dumps({"items": [{**good, **changes}]}))
    with pytest.raises(ConfigError, match=message):
        texts.read(tmp_path / "bad.json")


def test_a_text_longer_than_the_context_is_refused(toy: Folder) -> None:
    from dataclasses import replace

    from ontogeny.studies.outlandish.laboratory import check

    laboratory = Laboratory(toy, settings(), "cpu", 0)
    with pytest.raises(ConfigError, match=r"needs .* tokens .* and the model takes 20"):
        check(laboratory.texts, replace(laboratory.encoder, limit=20))


def test_models_that_do_not_serve_are_refused(tmp_path: Path) -> None:
    out = OutFolder(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        pretrained.refer(f"folder:{tmp_path}", Sources(), out)
    with pytest.raises(ConfigError, match="is no model"):
        pretrained.refer("hub:nothing", Sources(), out)
    small = model_folder(tmp_path / "small", Architecture(12, 8, 1, 2, 12, 16))
    with pytest.raises(ConfigError, match="numbers up to 19, but the model has only 12"):
        pretrained.refer(f"folder:{small}", Sources(), out)
    bert = model_folder(tmp_path / "bert")
    (bert / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": 20}))
    with pytest.raises(ConfigError, match="not a causal language model"):
        pretrained.refer(f"folder:{bert}", Sources(), out)


def test_a_model_that_changed_since_is_refused(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedFile, match="not the file that the study was prepared with"):
        pretrained.load(folder, "cpu")


def test_statistics_against_scipy_and_known_shapes() -> None:
    stream = np.random.default_rng(0)
    values, cluster = stream.normal(size=(60, 2)), np.repeat(np.arange(12), 5)
    expected = stats.spearmanr(values[:, 0], values[:, 1]).statistic
    assert claims.spearman(values, cluster) == pytest.approx(expected)
    shifted = np.stack([values[:, 0] + 100 * cluster, -values[:, 0] + 100 * cluster], axis=1)
    assert claims.spearman(shifted, cluster) > 0.9
    assert claims.within(shifted, cluster) < -0.5
    x = np.linspace(-8, 0, 100)
    stick = np.stack([x, np.where(x < -3, 2 - 0.5 * (x + 3), 2.0)], axis=1)
    assert claims.breakpoint_of(stick, cluster) == pytest.approx(-3, abs=0.3)
    assert claims.step_at_low(np.stack([x, np.where(x < -3, 2.0, 1.0)], axis=1), cluster) == pytest.approx(1)


def test_the_bootstrap_draws_keywords() -> None:
    """Texts of a keyword that are all alike count as one: the interval is that of the keywords' means."""
    means = np.random.default_rng(1).normal(size=12)
    frame = pd.DataFrame({"keyword": np.repeat(list("abcdefghijkl"), 20), "value": np.repeat(means, 20)})
    found = claims.clustered(claims.mean, frame, ["value"], Interval(0.95))
    half = 1.96 * means.std() / np.sqrt(12)
    assert found.n == 12 and found.value == pytest.approx(means.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)
