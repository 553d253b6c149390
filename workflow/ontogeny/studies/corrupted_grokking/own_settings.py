"""What is asked about a user's model of two-operand arithmetic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ontogeny.own_settings import OwnCheckpoints


class OwnSettings(OwnCheckpoints):
    """A network f(m, n) = W act(U e_m + V e_n + b) + c with one input unit for each operand's value.

    Matrices may be stored either way round; the axis of `modulus` entries is recognised.
    """

    modulus: int = Field(ge=3, description="p, number of values of an operand and of answers")
    inputs: list[str] = Field(
        min_length=1,
        max_length=2,
        description="tensors U and V; one tensor with 2 p columns for both (concatenated one-hot inputs); or one with "
        "p columns that both operands share",
    )
    readout: str = Field(description="tensor W")
    hidden_bias: str | None = Field(None, description="tensor b, (N,)")
    readout_bias: str | None = Field(None, description="tensor c, (p,)")
    activation: Literal["square", "relu", "gelu"] = Field(description="act")
    examples: str | None = Field(
        None,
        description="CSV with columns m, n, label and, optionally, answer: the pairs that were trained on. Without "
        "`answer` the truth is (m + n) mod p",
    )

    def files(self) -> tuple[str, ...]:
        """Checkpoints, and the training pairs."""
        return (*super().files(), *([self.examples] if self.examples else []))
