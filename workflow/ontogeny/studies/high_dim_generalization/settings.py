"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
COMPARED_LOADS = (0.25, 0.5, 1, 2)
Digit = Annotated[int, Field(ge=0, le=9)]


class DataSettings(Settings):
    """Arguments of `prepare`: two digits of MNIST."""

    digits: tuple[Digit, Digit] = Field(description="the two digits that are told apart; targets -1 and +1")
    pool: Literal[1, 2, 4, 7] = Field(description="images are averaged over squares of so many pixels a side")

    @model_validator(mode="after")
    def _two_digits(self) -> DataSettings:
        if self.digits[0] == self.digits[1]:
            raise ValueError("digits are two different ones")
        return self


class Gaussian(Settings):
    """A matrix of P = load x N samples of N Gaussian inputs."""

    inputs: int = Field(ge=10, description="inputs N, which is also the number of weights")
    loads: list[Positive] = Field(
        min_length=1, description="samples per weight P/N; the spectrum, and with it the theory, needs at least one"
    )

    @model_validator(mode="after")
    def _whole_samples(self) -> Gaussian:
        for load in self.loads:
            samples = load * self.inputs
            if samples < 1 or abs(samples - round(samples)) > 1e-9:
                raise ValueError(f"load {load:g} x {self.inputs} inputs is not a whole number of samples")
        return self


class Descent(Settings):
    """Gradient descent in discrete steps, the control of the exact flow."""

    seeds: int = Field(ge=1, description="how many of the seeds, from 0 on, take part")
    rate: float = Field(gt=0, lt=2, description="learning rate times the upper edge of the spectrum; 2 would diverge")
    steps: int = Field(ge=10, description="steps of gradient descent")


class Linear(Gaussian):
    """Linear students of a noisy linear teacher (claims c1 to c5)."""

    experiment: Literal["linear"]
    snrs: list[Positive] = Field(min_length=1, description="signal-to-noise ratios at which stopping meets the ridge")
    snr: Positive = Field(description="signal-to-noise ratio of everything else")
    inrs: list[Share] = Field(min_length=2, description="initial over teacher weight variance; 0 is a zero start")
    last_time: float = Field(ge=100, allow_inf_nan=False, description="end of training [tau]")
    times: int = Field(ge=400, description="points of the logarithmic grid of times; coarser ones miss the optimum")
    descent: Descent

    @model_validator(mode="after")
    def _what_claims_compare(self) -> Linear:
        missing = [load for load in COMPARED_LOADS if load not in self.loads]
        if missing:
            raise ValueError(f"loads lack {missing}, which the claims compare")
        if self.snr not in self.snrs:
            raise ValueError(f"snrs lack the {self.snr:g} of snr")
        if 0 not in self.inrs:
            raise ValueError("inrs lack 0, the start at zero")
        return self


class Spectrum(Gaussian):
    """Spectra of large input correlations (claim c3)."""

    experiment: Literal["spectrum"]

    @model_validator(mode="after")
    def _has_a_gap(self) -> Spectrum:
        if 1 in self.loads:
            raise ValueError("at load 1 the spectrum has no gap to measure")
        return self


class Features(Settings):
    """Random ReLU features with trained output weights, learning from a ReLU teacher (claim c6)."""

    experiment: Literal["features"]
    inputs: int = Field(ge=2, description="input dimension")
    teacher: Count = Field(description="hidden units of the teacher")
    samples: int = Field(ge=10, description="training samples P")
    snr: Positive = Field(description="variance of the teacher's output over that of the noise")
    widths: list[Count] = Field(min_length=3, description="hidden units of the students, increasing")
    last_time: float = Field(gt=100, allow_inf_nan=False, description="end of training, for mean squared error")
    times: int = Field(ge=50, description="points of the logarithmic grid of times")

    @model_validator(mode="after")
    def _widths_on_both_sides(self) -> Features:
        _increasing(self.widths)
        if not self.widths[0] < self.samples < self.widths[-1]:
            raise ValueError("widths lie on both sides of the number of samples, where the peak is expected")
        return self


class Digits(Settings):
    """One-hidden-layer ReLU networks, both layers trained, on MNIST with wrong labels (claims c7 and c8)."""

    experiment: Literal["digits"]
    samples: int = Field(ge=10, description="training images P")
    wrong_labels: float = Field(gt=0, lt=0.5, description="share of training labels that are flipped; without noise "
                                "there is nothing to overtrain on, at one half nothing to learn")  # fmt: skip
    widths: list[Count] = Field(min_length=3, description="hidden units, increasing")
    init_scales: list[Positive] = Field(min_length=2, description="factors on the initial weights of both layers")
    rate: float = Field(gt=0, lt=4, description="learning rate times a bound on the initial curvature [1/step]")
    momentum: float = Field(ge=0, lt=1, description="heavy-ball momentum")
    steps: int = Field(ge=10, description="steps of full-batch gradient descent")
    measurements: int = Field(ge=5, description="measurements of each network, on a logarithmic grid of steps from 0")
    test_images: int = Field(ge=10, description="test images, from the first on")

    @model_validator(mode="after")
    def _grids(self) -> Digits:
        _increasing(self.widths)
        _increasing(self.init_scales)
        return self


def _increasing(values: list[int] | list[float]) -> None:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"{values} do not increase")


RunSettings = Annotated[Linear | Spectrum | Features | Digits, Field(discriminator="experiment")]
