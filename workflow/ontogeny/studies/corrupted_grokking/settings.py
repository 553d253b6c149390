"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ontogeny.settings import Settings

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


class DataSettings(Settings):
    """Arguments of `prepare`."""

    moduli: list[Annotated[int, Field(ge=3)]] = Field(
        min_length=1, description="moduli p of the tables of (m + n) mod p; one for each modulus that the sweep uses"
    )


class _Row(Settings):
    """What every row says. Members of its ensemble: the product of its lists x the seeds of the run."""

    modulus: int = Field(ge=3, description="p: the task is (m + n) mod p over all p^2 pairs")
    train_fraction: list[Fraction] = Field(min_length=1, description="alpha: share of the pairs that is trained on")
    corruption: list[Share] = Field(
        min_length=1, description="xi: share of the training labels that is redrawn uniformly from 0..p-1"
    )
    weight_decay: list[NonNegative] = Field(min_length=1, description="decoupled weight decay of AdamW")
    learning_rate: float = Field(gt=0)
    betas: tuple[Rate, Rate] = Field(description="decay of Adam's two moments")
    eps: float = Field(gt=0, description="added to the root of Adam's second moment")
    steps: int = Field(ge=1, description="optimiser steps")
    log_every: int = Field(ge=1, description="steps between two rows of the history")


class FullBatch(_Row):
    """The quadratic two-layer network, trained on all training pairs at every step."""

    experiment: Literal["full_batch"]
    width: int = Field(ge=2, description="N: hidden neurons")
    dropout: list[Rate] = Field(min_length=1, description="share of pre-activations set to zero in training")
    keep_weights: bool = Field(description="whether the final weights are kept, for the probes of single neurons")


class Minibatch(_Row):
    """The quadratic two-layer network, trained on minibatches, with or without BatchNorm before the readout."""

    experiment: Literal["minibatch"]
    width: int = Field(ge=2, description="N: hidden neurons")
    batch_norm: list[bool] = Field(min_length=1, description="BatchNorm1d (affine) between square and readout")
    batch_size: int = Field(ge=2)
    keep_weights: bool = Field(description="whether the final weights are kept, for the probes of single neurons")


class ReluMlp(_Row):
    """The ReLU network with two hidden layers (three layers of weights), full batch."""

    experiment: Literal["relu_mlp"]
    width: int = Field(ge=2, description="neurons of either hidden layer")


class Transformer(_Row):
    """The one-layer encoder with ReLU MLP and without LayerNorm on the two tokens m, n, full batch."""

    experiment: Literal["transformer"]
    width: int = Field(ge=2, description="d: embedding dimension")
    heads: int = Field(ge=1, description="attention heads; divides the width")


RunSettings = Annotated[FullBatch | Minibatch | ReluMlp | Transformer, Field(discriminator="experiment")]
