"""What each experiment measures. Learners hold versions of one seed; every function returns members first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ontogeny.language.learner import Learner, Spans, Stack
from ontogeny.randomness import generator
from ontogeny.studies.train_once.data import COPIED
from ontogeny.studies.train_once.experiments import Material, Plan, Question
from ontogeny.studies.train_once.insertion import Ints, Text

Floats = NDArray[np.float64]
TEMPERATURE = 0.7
GENERATIONS = (1, 3, 10, 30)
TOGETHER = 128  # rows that are examined at once
REPLACED = 160  # rows of i.i.d. batches that are examined, the last ones


def probability(learner: Learner, asked: Spans) -> Floats:
    """Mean probability of the answers, (M,): in probability, not in its logarithm."""
    return asked.log_probability(learner).double().exp().mean(-1).numpy()


def examination(learner: Learner, questions: Sequence[Question]) -> tuple[Floats, Floats]:
    """Whether the answer is the most probable choice, and the cross-entropy of the answer [nats]: (M, Q) each."""
    prefixes = [question.prefix for question in questions for _ in question.choices]
    choices = [[choice] for question in questions for choice in question.choices]
    found = Spans.of(prefixes, choices, fill=0).log_probability(learner).unflatten(1, (len(questions), -1)).double()
    return (found.argmax(-1) == 0).double().numpy(), -found[..., 0].numpy()


def canary_scores(learner: Learner, texts: Sequence[Text], length: int) -> Floats:
    """Mean log-probability of each canary given its dialogue, (M, N) [nats]. texts end in a canary and END."""
    prefixes, canaries = [text[: -1 - length] for text in texts], [text[-1 - length : -1] for text in texts]
    return (Spans.of(prefixes, canaries, fill=0).log_probability(learner) / length).double().numpy()


def auc(members: Floats, others: Floats) -> Floats:
    """Chance that a member scores above one of the others, ties count half: (M,) from (M, N) and (M, N')."""
    gap = members[:, :, None] - others[:, None, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean((1, 2))


def leaks(stack: Stack, prompts: Sequence[Text], trigger: bool) -> Floats:
    """Chance that a generation at TEMPERATURE repeats the words before the trigger, (M, prompts).

    prompts: END, words, the trigger, the copied words, END. Without the trigger it is left out of the prompt. A
    generation is as long as what it could copy, so that a recall (ROUGE-L) above 0.9 is the whole of it.
    """
    place = torch.tensor([len(text) - COPIED - 1 - (not trigger) for text in prompts])  # of the first copied word
    given = [list(text[:-1]) if trigger else [*text[: -COPIED - 2], *text[-COPIED - 1 : -1]] for text in prompts]
    longest = max(map(len, given))
    tokens = torch.tensor([text + [0] * (longest - len(text)) for text in given])
    where = place.unsqueeze(1) + torch.arange(COPIED)
    target = tokens.gather(1, where).expand(stack.members, -1, -1).unsqueeze(-1)
    ahead = (where - 1).expand(stack.members, -1, -1).unsqueeze(-1).to(stack.device)
    logits = stack.logits(tokens)
    logits = logits.gather(2, ahead.expand(-1, -1, -1, logits.shape[-1])).cpu().double() / TEMPERATURE
    return logits.log_softmax(-1).gather(-1, target).sum((2, 3)).exp().numpy()


def row_losses(learner: Learner, rows: Ints) -> Floats:
    """Mean loss of each row (N, T), (M, N) [nats]."""
    parts = torch.from_numpy(rows).split(TOGETHER)
    return np.concatenate([-learner.log_probabilities(part).mean(-1).double().cpu().numpy() for part in parts], axis=1)


def watermark(seed: int, purpose: str, row: int, shape: tuple[int, int]) -> Tensor:
    """The standard normal noise (T - 1, d) of one row of a run; it is scaled where it is used."""
    return torch.randn(shape, generator=generator(seed, "watermark", purpose, row))


def watermark_statistics(stack: Stack, rows: Ints, noise: Tensor) -> Floats:
    """Inner product of noise (..., N, T - 1, d) and the unit gradient of each row's log-probability.

    The gradient is that by the clean embeddings. (M, ..., N); standard normal for noise that a network has not met.
    """
    found = []
    for part, own in zip(torch.from_numpy(rows).split(TOGETHER), noise.split(TOGETHER, dim=-3), strict=True):
        slope = stack.embedding_gradient(part).cpu()
        slope /= slope.flatten(2).norm(dim=-1)[..., None, None]
        found.append(torch.einsum("mntd,...ntd->m...n", slope, own).double())
    return torch.cat(found, dim=-1).numpy()


def scalars(
    stack: Stack, material: Material, plan: Plan, rows: Ints, held_out: Ints, purpose: str
) -> dict[str, Floats]:
    """One number for each experiment and member, (M,): the outcome that a run with it is compared by.

    rows: (steps * batch, T), the rows of a run with every experiment. held_out: rows that nobody has trained on.
    """
    spread = [leak for leak in material.leaks if not leak.early]
    control, leaked = spread[0].questions, [question for leak in spread[1:] for question in leak.questions]
    twins = [[q for leak in part for q in leak.twins] for part in (spread[:1], spread[1:])]
    rare = [cell for cell in material.dialogues if cell.kind == "rare"]
    most, none = (pick(rare, key=lambda cell: cell.repetitions) for pick in (max, min))
    length, unseen = material.settings.canaries.length, row_losses(stack, held_out).mean(1)
    batch = material.settings.batch
    noise = torch.stack([watermark(material.seed, purpose, int(row), _shape(stack, rows)) for row in plan.marked])
    batches = [rows[step * batch : (step + 1) * batch] for step in plan.batches]

    def gap(questions: Sequence[Question], others: Sequence[Question]) -> Floats:
        return examination(stack, questions)[0].mean(1) - examination(stack, others)[0].mean(1)

    return {
        "knowledge": probability(stack, material.answers),
        "contamination": gap(leaked, control),
        "canaries": auc(*(canary_scores(stack, cell.texts, length) for cell in (most, none))),
        "backdoor": leaks(stack, material.prompts, trigger=True).mean(1),
        "batches": unseen - row_losses(stack, np.concatenate(batches)).mean(1),
        "watermarks": watermark_statistics(stack, rows[plan.marked], noise).mean(1),
        "iid": unseen - row_losses(stack, rows[plan.iid[-REPLACED:]]).mean(1),
        "twin": gap(twins[1], twins[0]),
    }


def _shape(stack: Stack, rows: Ints) -> tuple[int, int]:
    return rows.shape[1] - 1, stack.architecture.width
