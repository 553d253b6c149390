"""What fact_world may be told: the language, and the models that learn it."""

from __future__ import annotations

from pydantic import Field, model_validator

from ontogeny.settings import Settings


class WorldSettings(Settings):
    """The size of the synthetic language; see `ontogeny.language.facts.Shape`."""

    people: int = Field(400, ge=2, description="people of the background")
    strangers: int = Field(200, ge=1, description="names that the background never uses")
    values: int = Field(24, ge=2, description="values of each theme")
    lands: int = Field(8, ge=2, description="lands that the cities lie in")
    filler_words: int = Field(80, ge=2)
    filler: float = Field(0.3, ge=0, le=1, description="share of rows that are filler")
    landed: float = Field(0.1, ge=0, le=1, description="share of facts that state a person's land")
    zipf_people: float = Field(1.0, ge=0)
    zipf_values: float = Field(0.7, ge=0)


class DataSettings(Settings):
    """The background that is prepared."""

    world: WorldSettings
    length: int = Field(ge=16, description="tokens of a row")
    rows: int = Field(ge=1, description="rows to train on; each is seen once")
    held_out: int = Field(ge=1, description="rows that no model sees")


class RunSettings(Settings):
    """One row: a model and its training."""

    width: int = Field(ge=4)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    hidden: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0, description="after the warm-up it is constant")
    warm_up: int = Field(ge=0, description="steps")
    checkpoints: list[int] = Field(min_length=1, description="steps after which weights and moments are kept")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> RunSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads (rotary pairs)")
        if self.checkpoints != sorted(set(self.checkpoints)) or self.checkpoints[0] < 1:
            raise ValueError("checkpoints are different steps from 1 on, in ascending order")
        return self
