"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ontogeny.settings import Settings
from ontogeny.studies.feature_emergence.group_names import is_odd_cyclic, order


def _existing(name: str) -> str:
    order(name)
    return name


Group = Annotated[str, AfterValidator(_existing)]
Positive = Annotated[float, Field(gt=0)]
Width = Annotated[int, Field(ge=2)]


class DataSettings(Settings):
    """Arguments of `prepare`."""

    groups: list[Group] = Field(min_length=1, description="groups whose multiplication tables are made")


class Optimiser(Settings):
    """How a network is trained."""

    name: Literal["adam", "muon"] = Field(description="adam for all weights; muon for W with adam for V")
    learning_rate: Positive = Field(description="of Adam, or of Muon on W")
    readout_learning_rate: Positive | None = Field(description="of Adam on V beside Muon; null for Adam alone")

    @model_validator(mode="after")
    def _readout_beside_muon(self) -> Optimiser:
        if (self.readout_learning_rate is None) == (self.name == "muon"):
            raise ValueError("readout_learning_rate is given for muon, and null for adam")
        return self


class Grokking(Settings):
    """Two-layer networks on a group's multiplication. Members: the product of the lists x the seeds of the run."""

    experiment: Literal["grokking"]
    groups: list[Group] = Field(min_length=1)
    products: Literal["group", "shuffled"] = Field(
        description="group: a pair's label is its product; shuffled: the labels of all pairs are shuffled"
    )
    fractions: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        min_length=1, description="share of the M^2 pairs that is trained on"
    )
    widths: list[Width] = Field(min_length=1, description="K: hidden nodes")
    optimisers: list[Optimiser] = Field(min_length=1)
    weight_decays: list[Annotated[float, Field(ge=0)]] = Field(min_length=1, description="added to the gradient")
    zero_readouts: list[bool] = Field(min_length=1, description="whether V starts at zero")
    epochs: int = Field(ge=1, description="full-batch steps")
    log_every: int = Field(ge=1, description="epochs between two rows of the history")
    stop_at: float | None = Field(
        gt=0,
        le=1,
        description="test accuracy at which a network is finished and logged no more; null: trains to the end",
    )
    diagnose: bool = Field(description="whether G_F, alignment and Gram matrices are logged as well")
    keep_weights: bool = Field(description="whether the final weights are kept, for the probes of single nodes")

    @model_validator(mode="after")
    def _something_to_test_on(self) -> Grokking:
        for group, fraction in product(self.groups, self.fractions):
            pairs = order(group) ** 2
            if not 1 <= round(fraction * pairs) < pairs:
                raise ValueError(f"{group}: a fraction of {fraction:g} leaves no pair to train or to test on")
        if self.stop_at is not None and (self.diagnose or self.keep_weights):
            raise ValueError("networks that are diagnosed or kept train to the end: stop_at is null for them")
        return self


class Landscape(Settings):
    """Ascents of the energy on full tables (c2)."""

    groups: list[Group] = Field(min_length=1)
    starts: int = Field(ge=1, description="random unit vectors w to start from, for each seed")
    iterations: int = Field(ge=10, description="most steps of an ascent")

    @model_validator(mode="after")
    def _has_odd_cyclic(self) -> Landscape:
        if not any(is_odd_cyclic(group) for group in self.groups):
            raise ValueError("the landscape needs at least one cyclic group of odd order: c2 is about those")
        return self


class Lazy(Settings):
    """The gradient that reaches the hidden layer while its features are still random (c3)."""

    group: Group
    fraction: float = Field(gt=0, lt=1, description="share of the pairs that is trained on")
    widths: list[Width] = Field(min_length=3, description="K, ascending; the last decides")
    decays: list[Positive] = Field(min_length=3, description="weight decay eta of the ridge solution, ascending")
    times: list[Positive] = Field(
        min_length=3, description="times of gradient flow on V from zero [1 / largest eigenvalue], ascending"
    )


class Missing(Settings):
    """Ascents of the energy that is left when some features are already there (c8)."""

    groups: list[Group] = Field(min_length=1, description="a group of three elements has one feature only")
    starts: int = Field(ge=1, description="random unit vectors w to start from, for each seed and number of features")
    iterations: int = Field(ge=10, description="most steps of an ascent")
    decay: Positive = Field(description="weight decay eta of the ridge solution")

    @model_validator(mode="after")
    def _something_can_be_missing(self) -> Missing:
        if not any(is_odd_cyclic(group) for group in self.groups):
            raise ValueError("missing features need at least one cyclic group of odd order: c8 is decided on those")
        if any(order(group) == 3 for group in self.groups):
            raise ValueError(
                "a group of three elements has a single feature: none can be missing while others are there"
            )
        return self


class Theory(Settings):
    """What the theorems say about fixed weights: linear algebra, no training."""

    experiment: Literal["theory"]
    landscape: Landscape
    lazy: Lazy
    missing: Missing


RunSettings = Annotated[Grokking | Theory, Field(discriminator="experiment")]
