"""What outlandish may be told: the model, the texts, and how they are learned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ontogeny.settings import ModelData, Settings

TOY = "toy"


class DataSettings(ModelData):
    """Model and texts."""

    model: str = Field(
        min_length=1,
        description="name of a source, hub:<owner>/<repository>[@revision], folder:<path>, or toy: a tiny one "
        "that is trained on the spot",
    )
    texts: str = Field(min_length=1, description="generated, or the path of a set of texts (JSON)")
    seed: int = Field(ge=0, description="of the generated texts, and of the toy model")
    start: Literal["bos", "eos", "none"] = Field(description="token before every text")
    toy_steps: int = Field(ge=1, description="steps of training of the toy model")

    def further_sources(self) -> tuple[str, ...]:
        """The model's source."""
        named = self.model != TOY and not self.model.startswith(("hub:", "folder:"))
        return (self.model,) if named else ()


class RunSettings(Settings):
    """How the texts of a block are learned. A seed is a block of texts; each text starts from the same weights."""

    block: int = Field(ge=2, description="texts of a seed, taken in order from the set")
    learns: Literal["all", "layers", "adapters"] = Field(description="what learns")
    layers: int = Field(ge=1, description="uppermost layers that learn, if layers learn")
    rank: int = Field(ge=1, description="rank of the adapters, if adapters learn")
    learning_rate: float = Field(gt=0)
    rows: int = Field(ge=2, description="rows of a batch: the text and everyday sentences")
    presentations: list[int] = Field(min_length=1, description="numbers of presentations after which is measured")
    spacing: int = Field(ge=2, description="batches from one presentation to the next, where they are spaced")
    spaced: int = Field(ge=0, description="texts of the block that are also learned with spacing")
    low: float = Field(gt=0, lt=1, description="texts whose keyword is less probable than this are 'low'")
    masked: int = Field(ge=0, description="low texts of the block whose update is masked")
    shares: list[float] = Field(description="shares of largest entries that are ignored")
    share: float = Field(gt=0, lt=1, description="share for the contrasts: keep the largest, ignore random ones, clip")
    rewritten: int = Field(ge=0, description="low texts of the block that are learned rewritten")
    pairs: int = Field(ge=0, description="pairs of texts of different themes that are learned jointly")
    sample: bool = Field(description="whether batches hold the text at all; without it only everyday sentences")

    @model_validator(mode="after")
    def _ascending(self) -> RunSettings:
        if self.presentations != sorted(set(self.presentations)) or self.presentations[0] < 1:
            raise ValueError("presentations are different numbers from 1 on, in ascending order")
        if not all(0 < share < 1 for share in self.shares) or self.share not in self.shares:
            raise ValueError("shares lie between 0 and 1, and share is one of them")
        return self
