"""What the sweep's rows and the prepared data may say. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

Diversity = Annotated[int, Field(ge=2, description="one task leaves nothing to choose between")]


class DataSettings(Settings):
    """The sequences on which networks and ideal predictors are compared."""

    symbols: int = Field(ge=2, description="V, symbols that an urn may hold")
    length: int = Field(ge=2, description="C, draws of a sequence")
    fresh: int = Field(ge=8, description="tasks outside the training set, one sequence each")
    familiar: int = Field(ge=8, description="sequences from the training tasks, for each seed and D")
    loss_sequences: int = Field(ge=8, description="sequences that give the ideal predictors' training losses")
    mixtures: int = Field(ge=8, description="mixture weights, besides 0, at which divergences are tabulated")


class Urns(Settings):
    """Transformers of one size, trained on mixtures of D urns for every D of a list."""

    experiment: Literal["urns"]
    symbols: int = Field(ge=2, description="V, symbols that an urn may hold")
    length: int = Field(ge=2, description="C, draws of a sequence")
    mixture: Literal["fixed", "fresh"] = Field(
        description="fixed: sequences come from D training tasks; fresh: each from a task of its own, the D never seen"
    )
    tasks: list[Diversity] = Field(min_length=2, description="D, numbers of training tasks, ascending")
    width: int = Field(ge=2, description="numbers in the residual stream")
    layers: int = Field(ge=1, description="blocks of attention and hidden units")
    heads: int = Field(ge=1, description="attention heads of a layer")
    rotary: int = Field(ge=0, multiple_of=2, description="entries of queries and keys that are rotated by position")
    hidden: int = Field(ge=1, description="hidden units of a layer")
    units: Literal["gelu", "relu"] = Field(description="what a hidden unit does")
    deviation: float = Field(gt=0, description="standard deviation of the initial weights")
    batch: int = Field(ge=1, description="sequences of a training step")
    learning_rate: float = Field(gt=0, description="of Adam, after the warm-up")
    warm_up: int = Field(ge=0, description="steps over which the learning rate grows to its value")
    clip: float = Field(gt=0, description="largest norm of a network's gradient")
    memory: float = Field(
        ge=0, lt=1, description="share of the steps so far over which the examined weights are averaged; 0: not at all"
    )
    steps: int = Field(ge=2, description="training steps")
    checkpoints: int = Field(ge=5, description="checkpoints, evenly spaced in the square root of the step")
    first: int = Field(ge=1, description="step of the first checkpoint")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Urns:
        if self.width % self.heads or self.rotary > self.width // self.heads:
            raise ValueError(f"heads must divide the width {self.width}, and a head must hold the rotary entries")
        return self

    @model_validator(mode="after")
    def _lists_ascend(self) -> Urns:
        if self.tasks != sorted(set(self.tasks)):
            raise ValueError("tasks must ascend, each number once")
        if self.first + self.checkpoints - 1 > self.steps:
            raise ValueError(f"{self.checkpoints} checkpoints from step {self.first} need more than {self.steps} steps")
        return self


RunSettings = Urns
