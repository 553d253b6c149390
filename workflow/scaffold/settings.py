"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ontogeny.settings import Settings


class DataSettings(Settings):
    """Arguments of `prepare`."""

    curvature: float = Field(gt=0, description="second derivative of the loss")


class Decay(Settings):
    """One row of the sweep."""

    experiment: Literal["decay"]
    learning_rates: list[float] = Field(min_length=1, description="one ensemble member per rate and seed [1/step]")
    steps: int = Field(ge=10, description="steps of gradient descent")


RunSettings = Decay
