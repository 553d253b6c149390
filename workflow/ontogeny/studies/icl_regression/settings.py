"""What the sweep's rows and the prepared data may say. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

Count = Annotated[int, Field(ge=1)]


class Task(Settings):
    """The distribution of prompts: x ~ N(0, Sigma), y_n = beta_n . x + noise, one beta_n per task and prompt."""

    dimension: int = Field(ge=2, description="d, number of covariates")
    correlation: float = Field(ge=0, lt=1, description="rho of the covariance Sigma_ij = rho^|i-j|; 0 is isotropic")
    supports: list[list[int]] = Field(
        min_length=1, description="covariates that each task reads, from 1; beta_n ~ N(0, I/|support|) on them"
    )
    noise: float = Field(gt=0, description="sigma^2, variance of the noise on every label")

    @model_validator(mode="after")
    def _supports_lie_within_the_covariates(self) -> Task:
        for support in self.supports:
            if not support or min(support) < 1 or max(support) > self.dimension or len(set(support)) < len(support):
                raise ValueError(f"a support is a set of covariates between 1 and {self.dimension}")
        return self


class DataSettings(Settings):
    """The fixed prompts on which every predictor is examined."""

    prompts: int = Field(ge=100, description="prompts of each kind")
    lengths: list[Count] = Field(min_length=1, description="prompt lengths of the risk curves, ascending [tokens]")
    snapshot_prompts: int = Field(ge=50, description="prompts, the first ones, on which training is followed")
    multi_length: int = Field(ge=2, description="length of the prompts with several tasks [tokens]")
    single: Task = Field(description="the regression of the paper's main part")
    multi: Task = Field(description="several regressions on overlapping covariates")


class Attention(Settings):
    """Layers of attention heads, trained on fresh prompts by Adam."""

    experiment: Literal["attention"]
    task: Task
    length: int = Field(ge=2, description="L, tokens of a training prompt")
    kernel: Literal["softmax", "linear"] = Field(description="attention weights: softmax, or logit / L")
    heads: list[Count] = Field(min_length=1, description="one network per number of heads and seed")
    batch: int = Field(ge=1, description="fresh prompts of a step, the same for all networks of a seed")
    learning_rate: float = Field(ge=0, description="of Adam")
    steps: int = Field(ge=20, description="steps in all")
    decay_from: int = Field(ge=1, description="step from which the rate falls linearly; `steps` for a constant rate")
    final_rate: float = Field(ge=0, le=1, description="last learning rate over the first")
    snapshots: int = Field(ge=4, description="log-spaced steps at which the circuits are kept")


class ReducedLoss(Settings):
    """Gradient flow on the paper's reduced loss in (omega, mu), from one small random start per seed."""

    experiment: Literal["reduced_loss"]
    dimension: int = Field(ge=2, description="d")
    noise: float = Field(gt=0, description="sigma^2")
    length: int = Field(ge=2, description="L")
    heads: list[Count] = Field(min_length=1, description="one flow per number of heads and seed")
    start: float = Field(gt=0, description="standard deviation of the initial omega and mu")
    step_size: float = Field(gt=0, le=0.05, description="of Euler's method [time]; larger ones are unstable")
    steps: int = Field(ge=20)
    snapshots: int = Field(ge=4, description="log-spaced steps that are kept")


RunSettings = Annotated[Attention | ReducedLoss, Field(discriminator="experiment")]
