"""A model that learns texts and is asked for keywords, always from the same start.

Probabilities are those of a keyword's tokens, written with a blank before it, given the tokens of what stands before:
a keyword of several tokens has the product. Log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ontogeny.errors import ConfigError
from ontogeny.files import Folder
from ontogeny.language.finetune import FrozenTrunk, Update, let_adapters_learn, let_all_learn, let_layers_learn
from ontogeny.language.learner import Adam, Pretrained, Spans, next_token
from ontogeny.language.pretrained import context_of, load
from ontogeny.studies.outlandish.settings import RunSettings
from ontogeny.studies.outlandish.texts import OWN, Item, TextSet, from_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAM = Adam(betas=(0.9, 0.999), weight_decay=0.0, clip=None)


@dataclass(frozen=True)
class Encoder:
    """Words to tokens. start: the token before every text, if any."""

    tokenizer: PreTrainedTokenizerBase
    start: tuple[int, ...]
    limit: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, start: str) -> Encoder:
        """start: bos, eos or none. Raises ConfigError if the tokenizer has no such token."""
        token = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "none": None}[start]
        if token is None and start != "none":
            raise ConfigError(f"start: the tokenizer of this model has no {start} token; choose another, or none.")
        return cls(tokenizer, () if token is None else (token,), context_of(model))

    def words(self, text: str) -> list[int]:
        """Tokens of a piece of text, without start. Raises ConfigError if it is longer than the model's context."""
        tokens = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(tokens) + len(self.start) > self.limit:
            raise ConfigError(
                f"texts: '{text[:60]}' has {len(tokens)} tokens, and the model takes {self.limit - len(self.start)}. "
                "Shorten it."
            )
        return tokens

    def prefix(self, text: str) -> list[int]:
        """Tokens of the beginning of a text."""
        return [*self.start, *self.words(text)]

    def keyword(self, word: str) -> list[int]:
        """Tokens of a keyword within a text."""
        return self.words(f" {word}")

    def learned(self, context: str, keyword: str) -> list[int]:
        """Tokens of a whole text."""
        return [*self.prefix(context), *self.keyword(keyword)]


class Laboratory:
    """Model, texts, and the start that every learning begins from."""

    def __init__(self, data: Folder, settings: RunSettings, device: str, seed: int) -> None:
        """Raises ConfigError for texts that the model cannot take, before anything is learned."""
        self.settings, self.texts = settings, from_json(data.json("texts.json"))
        model, tokenizer = load(data, device)
        self.encoder = Encoder.of(model, tokenizer, data.json("start.json"))
        check(self.texts, self.encoder)
        if settings.learns == "all":
            let_all_learn(model)
        elif settings.learns == "layers":
            let_layers_learn(model, settings.layers)
            FrozenTrunk(model, settings.layers)
        else:
            model = let_adapters_learn(model, settings.rank, seed)
        self.learner = Pretrained(model, ADAM)
        self.update = Update.from_here(model)
        self.generic = [self.encoder.prefix(text) for text in self.texts.generic]

    def begin(self) -> None:
        """Weights and optimiser as they were at first."""
        self.update.restore()
        self.learner.forget_moments()

    def learn(self, rows: Sequence[Sequence[int]]) -> None:
        """One step on a batch."""
        spans = Spans.of([row[:1] for row in rows], [row[1:] for row in rows], fill=0)
        self.learner.learn(spans.tokens[None], self.settings.learning_rate, spans.mask[None].float())

    def log_probability(self, prefixes: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
        """Log-probability (N,) of each answer after its prefix. Logits are computed where an answer stands, only."""
        spans, model = Spans.of(prefixes, answers, fill=0), self.learner.model
        tokens, mask = spans.tokens.to(model.device), spans.mask
        place = torch.nonzero(mask.any(0)).flatten()
        with torch.no_grad():
            logits = model(input_ids=tokens[:, :-1], logits_to_keep=place.to(model.device)).logits
        return (next_token(logits, tokens[:, 1:][:, place]).cpu() * mask[:, place]).sum(-1)

    def of_contexts(self, items: Sequence[Item]) -> Tensor:
        """Log-probability (N,) of every item's keyword in its own context."""
        pairs = [(self.encoder.prefix(item.context), self.encoder.keyword(item.keyword)) for item in items]
        return torch.cat([self.log_probability([prefix], [answer]) for prefix, answer in pairs])

    def of_prefixes(self, theme: str, keyword: str, before: Sequence[int] = ()) -> Tensor:
        """Log-probability of a keyword after the prefixes of `TextSet.probed`, in order.

        before: a text that stands before each; then only the prefixes of the keyword's own theme are asked.
        """
        probed = [text for _, _, text in self.texts.probed(theme)]
        if before:
            prefixes = [[*before, *self.encoder.words(f" {text}")] for text in probed[:OWN]]
        else:
            prefixes = [self.encoder.prefix(text) for text in probed]
        return self.log_probability(prefixes, [self.encoder.keyword(keyword)] * len(prefixes))

    def held_out_loss(self) -> float:
        """Mean loss per token on everyday sentences that are never learned."""
        rows = [self.encoder.prefix(text) for text in self.texts.held_out]
        total = self.log_probability([row[:1] for row in rows], [row[1:] for row in rows]).sum()
        return -float(total) / sum(len(row) - 1 for row in rows)

    def portrait(self, item: Item) -> dict[str, float]:
        """What could predict priming beside the keyword's probability: loss, entropy and length of a text."""
        tokens = torch.tensor([self.encoder.learned(item.context, item.keyword)], device=self.learner.model.device)
        with torch.no_grad():
            logs = self.learner.model(input_ids=tokens[:, :-1]).logits.float().log_softmax(-1)
        return {
            "loss": -float(logs.gather(-1, tokens[:, 1:, None]).mean()),
            "entropy": -float((logs.exp() * logs).sum(-1).mean()),
            "tokens": float(tokens.shape[1] - len(self.encoder.start)),
        }


def check(texts: TextSet, encoder: Encoder) -> None:
    """Raise ConfigError if a text, with everything that is put before or behind it, exceeds the model's context."""
    longest = max((len(encoder.words(f" {text}")) for group in texts.prefixes.values() for text in group), default=0)
    for item in texts.items:
        for context in (item.context, *item.stones, *([item.plain] if item.plain else [])):
            needed = len(encoder.learned(context, item.keyword)) + longest + 2
            if needed > encoder.limit:
                raise ConfigError(
                    f"texts: item '{item.name}' needs {needed} tokens with a prefix behind it, and the model takes "
                    f"{encoder.limit}. Shorten it, or leave it out."
                )
