"""What the sweep's rows and the prepared data may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

Environment = Literal["sequential", "joint", "unrestricted", "uniform", "powerlaw", "exponential", "recent"]
Method = Literal["ewc", "si", "lwf"]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class DataSettings(Settings):
    """How an MNIST image becomes an input vector."""

    padding: int = Field(ge=0, description="zero pixels added on every side")
    pool: int = Field(ge=1, description="side of the square over which grey values are averaged [pixels]")

    @model_validator(mode="after")
    def _whole_squares(self) -> DataSettings:
        if (28 + 2 * self.padding) % self.pool:
            raise ValueError(f"pool must divide the image side {28 + 2 * self.padding}")
        return self


class Protocol(Settings):
    """What every row says: the stream of tasks, the networks, the optimiser, the examinations."""

    tasks: int = Field(ge=2, description="number of phases; each introduces one new pixel permutation")
    updates: int = Field(ge=1, description="updates of a phase that a learner without rehearsal would make")
    batch: int = Field(ge=1, description="examples of one update")
    widths: list[Count] = Field(min_length=1, description="units of every hidden layer")
    hidden_layers: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1, description="share of hidden units silenced in training")
    batch_norm: bool
    learning_rate: float = Field(gt=0, description="of Adam, whose moments live on from task to task")
    train_images: int = Field(ge=1, le=58_000, description="training images of a seed, the same for all its tasks")
    test_images: int = Field(ge=1, le=10_000, description="test images of a seed, the same for all its tasks")
    replay_fractions: list[Annotated[float, Field(ge=0)]] = Field(
        min_length=1, description="old examples of a phase per `updates * batch` examples; a phase has (1 + r) updates"
    )
    criterion: float = Field(gt=0, lt=1, description="accuracy at which a new task counts as learned")
    criterion_window: int = Field(ge=1, description="new examples over which that accuracy is averaged")
    members_at_once: int = Field(ge=1, description="networks trained as one tensor program")


class Environments(Protocol):
    """Networks without any protection, in environments that bring old tasks back, or do not."""

    experiment: Literal["environments"]
    environments: list[Environment] = Field(min_length=1)
    fresh: bool = Field(description="also train a new network on each task alone")


class Regularisers(Protocol):
    """Networks in the sequential environment, protected by a regulariser whose strength is tuned on other seeds."""

    experiment: Literal["regularisers"]
    strengths: dict[Method, list[Positive]] = Field(min_length=1, description="grid of each method")
    tuning_seeds: int = Field(ge=1, description="seeds for the choice of the strengths; never reported")
    fisher_images: int = Field(ge=1, description="images of a task that its Fisher information is averaged over (EWC)")
    damping: float = Field(gt=0, description="added to the squared movement that divides the path integral (SI)")
    temperature: float = Field(gt=0, description="of the distilled outputs (LwF)")


RunSettings = Annotated[Environments | Regularisers, Field(discriminator="experiment")]
