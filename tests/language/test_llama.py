"""The small Llamas against transformers' own, in double precision and through files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ontogeny.errors import ConfigError, OntogenyError
from ontogeny.files import write_json
from ontogeny.language.folders import read_model, write_model
from ontogeny.language.learner import Adam, Pretrained, Spans, Stack
from ontogeny.language.llama import Architecture, from_pretrained, initial, to_pretrained
from ontogeny.language.vocabulary import Vocabulary
from ontogeny.randomness import generator

VOCABULARY = Vocabulary.of(f"word{number}" for number in range(29))
ARCHITECTURE = Architecture(vocabulary=30, width=16, layers=2, heads=2, hidden=24, context=12)


def stack(members: int = 3, dtype: torch.dtype = torch.float32, **adam: object) -> Stack:
    networks = torch.stack([initial(ARCHITECTURE, generator(seed, "initial")) for seed in range(members)])
    return Stack(ARCHITECTURE, (networks * 5).to(dtype), Adam(**adam))  # type: ignore[arg-type]


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(30, shape, generator=generator(seed, "tokens"))


def of_transformers(network: torch.Tensor) -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**ARCHITECTURE.config(0))).to(network.dtype)
    left_out = model.load_state_dict(to_pretrained(ARCHITECTURE, network), strict=False)
    assert left_out.missing_keys == ["lm_head.weight"] and not left_out.unexpected_keys
    return model


def test_log_probabilities_are_those_of_transformers() -> None:
    ours, texts = stack(), tokens(5, 12)
    found = ours.log_probabilities(texts)
    for member, network in enumerate(ours.networks):
        with torch.no_grad():
            logits = of_transformers(network)(input_ids=texts).logits[:, :-1]
        expected = logits.log_softmax(-1).gather(-1, texts[:, 1:, None])[..., 0]
        torch.testing.assert_close(found[member], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_training_is_that_of_a_plain_loop(clip: float | None) -> None:
    """Six steps of the stack, and of transformers' model with torch's AdamW (its norms compute in single precision)."""
    ours = stack(2, torch.float64, clip=clip)
    theirs = [Pretrained(of_transformers(network), Adam(clip=clip)) for network in ours.networks.clone()]
    weights = torch.rand(2, 4, 11, generator=generator(0, "weights"), dtype=torch.float64)
    for step in range(6):
        batch = tokens(2, 4, 12, seed=step)
        losses = ours.learn(batch, 1e-3, weights)
        for member, model in enumerate(theirs):
            loss = model.learn(batch[member : member + 1], 1e-3, weights[member : member + 1])
            torch.testing.assert_close(loss[0].double(), losses[member].double(), atol=1e-5, rtol=1e-5)
    for member, model in enumerate(theirs):
        found = from_pretrained(ARCHITECTURE, model.model.state_dict())
        torch.testing.assert_close(found, ours.networks[member], atol=1e-4, rtol=1e-4)


def test_a_member_does_not_depend_on_its_neighbours() -> None:
    both, alone = stack(2), stack(1)
    for step in range(5):
        batch = tokens(2, 4, 12, seed=step)
        both.learn(batch, 1e-2)
        alone.learn(batch[:1], 1e-2)
    torch.testing.assert_close(both.networks[0], alone.networks[0], atol=1e-5, rtol=1e-4)


def test_a_written_model_is_read_by_transformers_and_by_us(tmp_path: Path) -> None:
    ours = stack(1)
    write_model(tmp_path, ARCHITECTURE, ours.networks[0], VOCABULARY)
    architecture, network = read_model(tmp_path)
    assert architecture == ARCHITECTURE and torch.equal(network, ours.networks[0])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    text = "word3 word0 word28"
    assert tokenizer(text)["input_ids"] == VOCABULARY.encode(text)
    assert tokenizer.decode(VOCABULARY.encode(text)) == text
    found = Pretrained(model, Adam()).log_probabilities(tokens(2, 8))
    torch.testing.assert_close(found, ours.log_probabilities(tokens(2, 8)), atol=1e-5, rtol=0)


def test_a_folder_with_another_architecture_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, ARCHITECTURE, stack(1).networks[0], VOCABULARY)
    write_json(tmp_path / "config.json", {**ARCHITECTURE.config(0), "num_key_value_heads": 1})
    with pytest.raises(ConfigError, match="num_key_value_heads is 1"):
        read_model(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    with pytest.raises(ConfigError, match="lacks vocab_size"):
        read_model(tmp_path)


def test_a_span_has_the_log_probability_of_its_tokens() -> None:
    ours = stack(2)
    prefixes, answers = [[0, 5, 6], [0, 7]], [[8], [9, 10, 11]]
    found = Spans.of(prefixes, answers, fill=0).log_probability(ours)
    for place, (prefix, answer) in enumerate(zip(prefixes, answers, strict=True)):
        whole = ours.log_probabilities(torch.tensor([prefix + answer]))
        torch.testing.assert_close(found[:, place], whole[:, 0, len(prefix) - 1 :].sum(-1), atol=1e-5, rtol=0)


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(OntogenyError, match=r"the word 'wrd3'.*'word3'"):
        VOCABULARY.encode("word1 wrd3")


def test_noise_shifts_the_embeddings_that_a_step_learns_from() -> None:
    """Noise that turns the embedding of one word into that of another is the same as the other word read."""
    ours, read = stack(1, torch.float64), tokens(1, 3, 12)
    table = ours.weights["embed"][0]
    other = torch.where(torch.arange(12) == 4, (read + 1) % 30, read)
    noise = (table[other] - table[read])[..., :-1, :]
    weights = (torch.arange(11) >= 4).expand(1, 3, 11).double()  # the changed word itself is not predicted
    shifted, expected = (ours.gradient(*given)[0] for given in ((read, weights, noise), (other, weights)))
    torch.testing.assert_close(shifted, expected)


def test_the_gradient_by_embeddings_is_that_of_finite_differences() -> None:
    ours, read = stack(2, torch.float64), tokens(3, 12)
    found, each = ours.embedding_gradient(read), read.expand(2, 3, 12)
    direction = found.sign() * torch.rand(found.shape, generator=generator(0, "direction"))
    losses = [ours.gradient(each, noise=sign * 1e-4 * direction)[0] for sign in (1, -1)]
    numeric = -(losses[0] - losses[1]) / 2e-4 * 3 * 11  # losses are means over 3 sequences of 11 predictions
    torch.testing.assert_close((found * direction).sum((1, 2, 3)).float(), numeric, rtol=1e-3, atol=0)
