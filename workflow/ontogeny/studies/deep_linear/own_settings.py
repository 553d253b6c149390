"""What is asked about a user's own data and network for the theory of deep linear learning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ontogeny.own_settings import OwnCheckpoints


class OwnSettings(OwnCheckpoints):
    """A network y = W_n ... W_1 x that was trained by full-batch gradient descent on squared error, and its data.

    With activations between the layers, the product of the matrices is what it computes near zero.
    """

    data: str = Field(description="npz file with x (examples, inputs) and y (examples, outputs)")
    layers: list[str] = Field(
        min_length=2, description="tensors W_1 ... W_n, (outputs, inputs) each, from the input on"
    )
    learning_rate: float = Field(gt=0)
    loss: Literal["mean", "half sum"] = Field(
        description="mean: over examples and outputs (torch's MSELoss); half sum: half the squared error, mean over "
        "examples"
    )

    @model_validator(mode="after")
    def _readable(self) -> OwnSettings:
        if not self.data.endswith(".npz"):
            raise ValueError(f"data: {self.data} is not an npz file (numpy.savez with x and y)")
        return self

    def files(self) -> tuple[str, ...]:
        """Checkpoints and data."""
        return (*super().files(), self.data)
