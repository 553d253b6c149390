"""What is asked about a user's attention layer that was trained on in-context regression."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ontogeny.own_settings import OwnCheckpoints
from ontogeny.settings import Settings


class Head(Settings):
    """The tensors of one head: q = Q z, k = K z, v = V z, prediction += O sum_l p_l v_l."""

    query: str = Field(description="Q, (size, D)")
    key: str = Field(description="K, (size, D)")
    value: str = Field(description="V, (size', D)")
    output: str = Field(description="O, (1, size')")


class OwnSettings(OwnCheckpoints):
    """One attention layer without positions whose tokens are (covariates; label), the query's label being 0."""

    covariates: int = Field(ge=2, description="d; a token has D = d + 1 entries, the label last")
    heads: list[Head] = Field(min_length=1)
    kernel: Literal["softmax", "linear"] = Field(description="attention weights: softmax, or logit / length")
    scale: float = Field(gt=0, description="what logits q . k are multiplied by, e.g. 1 / sqrt(D)")
    length: int = Field(ge=2, description="examples in a prompt of the training")
    noise: float = Field(gt=0, description="variance of the noise on labels")
    correlation: float = Field(0.0, ge=0, lt=1, description="rho of the covariates' covariance rho^|i-j|")
    lengths: list[int] = Field([10, 20, 40, 80, 160], min_length=1, description="prompt lengths of the report")
    prompts: int = Field(2000, ge=100, description="prompts of each length")
