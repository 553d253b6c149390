"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

ITEMS, FEATURES = 8, 15  # of the hierarchical task
Positive = Annotated[float, Field(gt=0)]
Competing = Annotated[int, Field(ge=2, le=20)]  # matrices of a pathway; one matrix alone makes no critical period
Depth = Annotated[int, Field(ge=1, le=10)]
Epoch = Annotated[int, Field(ge=0)]


class DataSettings(Settings):
    """Arguments of `prepare`: the hierarchical task has no free parameter."""


class Portrait(Settings):
    """One mode shared by two pathways: scalar equations, no network (claim c1). A seed is a starting point."""

    experiment: Literal["portrait"]
    depths: list[Competing] = Field(min_length=2, description="numbers of matrices D of a pathway, ascending")
    strength: Positive = Field(description="strength s of the mode")
    offset: float = Field(ge=0, description="conserved q^2 - p^2; 1 in the paper ('large' start)")
    start_sd: Positive = Field(description="standard deviation of the starting points p")
    step: Positive = Field(description="Euler step dt")
    steps: int = Field(ge=10, description="Euler steps")
    duration: int = Field(ge=0, description="steps for which pathway B is gated; 0: no deficit")
    early: Epoch = Field(description="first step of the early deficit")
    late: Epoch = Field(description="first step of the late deficit")
    onsets: list[Epoch] = Field(min_length=1, description="first steps of the deficits of the critical-window curve")

    @model_validator(mode="after")
    def _inside(self) -> Portrait:
        if self.depths != sorted(set(self.depths)):
            raise ValueError("depths ascend, without repetition")
        if self.early >= self.late:
            raise ValueError("the early deficit begins before the late one")
        if max(self.late, *self.onsets) + self.duration > self.steps:
            raise ValueError("every deficit ends before the last step")
        return self


class Gating(Settings):
    """Deficits of networks of one depth: pathway B is gated for `duration` epochs from each of the `onsets` on."""

    purpose: Literal["window", "refined", "lesion"] = Field(
        description="window: effect against onset; refined: at a smaller learning rate; lesion: a mode is cut out of A"
    )
    depth: Competing = Field(description="matrices D of each pathway")
    rate: Positive = Field(description="learning rate, for summed squared errors [1/epoch]")
    epochs: int = Field(ge=10, description="epochs of training in all")
    duration: int = Field(ge=1, description="length of the deficit [epochs]")
    onsets: list[Epoch] = Field(min_length=1, description="first epochs of the deficits")
    shown_onsets: list[Epoch] = Field(description="those whose whole course is kept and held against the equations")
    durations: list[Annotated[int, Field(ge=1)]] = Field(description="further lengths, from epoch 0 on [epochs]")
    controls: bool = Field(description="also gate A instead of B, and both, from epoch 0 on")
    lesioned_mode: int | None = Field(ge=1, le=ITEMS, description="rank of the mode that is cut out of pathway A")
    measure_every: int = Field(ge=1, description="epochs between measurements")

    @model_validator(mode="after")
    def _consistent(self) -> Gating:
        last = max(*(onset + self.duration for onset in self.onsets), *self.durations, 0)
        if last > self.epochs:
            raise ValueError(f"a deficit ends at epoch {last}, after the end of training")
        times = [self.epochs, self.duration, *self.onsets, *self.durations]
        if any(time % self.measure_every for time in times):
            raise ValueError("epochs, onsets and durations are multiples of measure_every")
        if not set(self.shown_onsets) <= set(self.onsets):
            raise ValueError("shown_onsets are among the onsets")
        if (self.purpose == "lesion") != (self.lesioned_mode is not None):
            raise ValueError("lesioned_mode is given for the purpose lesion, and for no other")
        return self


class Pathways(Settings):
    """Two deep linear pathways that learn the hierarchical task together (claims c2 and c3)."""

    experiment: Literal["pathways"]
    start: Literal["aligned", "random"] = Field(description="weights in the singular basis of the task, or Gaussian")
    width: int = Field(ge=FEATURES, description="width of the hidden layers")
    initial: float = Field(gt=0, lt=0.2, description="initial strength of a mode (random: RMS entry of a product)")
    noise: float = Field(ge=0, lt=0.3, description="relative noise of the initial strengths (aligned start only)")
    gatings: list[Gating] = Field(min_length=1, description="networks and their deficits")


class OtherMatrix(Settings):
    """The deficit is to learn another matrix, from the same entries."""

    kind: Literal["matrix"]
    rank: int = Field(ge=1, description="rank of the other matrix")


class FewerEntries(Settings):
    """The deficit is to see fewer entries of the same matrix."""

    kind: Literal["subset"]
    observed: int = Field(ge=1, description="entries that are seen during the deficit")
    final_observed: int = Field(ge=2, description="entries that are seen afterwards")


DeficitTask = Annotated[OtherMatrix | FewerEntries, Field(discriminator="kind")]


class Completion(Settings):
    """What the experiments with deep matrix completion have in common."""

    size: int = Field(ge=4, description="edge n of the square matrices")
    rank: int = Field(ge=1, description="rank of the matrix of the final task")
    observed: int = Field(ge=1, description="entries of it that are seen")
    init_scale: float = Field(gt=0, lt=1, description="scale of the initial product")
    learning_rates: dict[Depth, Positive] = Field(min_length=1, description="depth D -> learning rate [1/epoch]")
    final_epochs: int = Field(ge=1, description="epochs of the final task after the deficit")
    measure_every: int = Field(ge=1, description="epochs between measurements")

    @model_validator(mode="after")
    def _fits(self) -> Completion:
        if self.rank > self.size or self.observed > self.size**2:
            raise ValueError(f"a matrix of edge {self.size} has rank at most {self.size} and {self.size**2} entries")
        if self.final_epochs % self.measure_every:
            raise ValueError("final_epochs is a multiple of measure_every")
        return self


class Transfer(Completion):
    """A deficit task first, for as many epochs as `switches` say, then the final task (claims c4 to c6)."""

    experiment: Literal["transfer"]
    deficits: list[DeficitTask] = Field(min_length=1, description="what is learned first")
    switches: list[Epoch] = Field(min_length=2, description="lengths of the deficit, ascending from 0 [epochs]")

    @model_validator(mode="after")
    def _deficits_fit(self) -> Transfer:
        if self.switches != sorted(set(self.switches)) or self.switches[0] != 0:
            raise ValueError("switches ascend from 0: the shortest is the network without deficit")
        if any(switch % self.measure_every for switch in self.switches):
            raise ValueError("switches are multiples of measure_every")
        for deficit in self.deficits:
            if isinstance(deficit, OtherMatrix) and deficit.rank > self.size:
                raise ValueError(f"a matrix of edge {self.size} has rank at most {self.size}")
            if isinstance(deficit, FewerEntries) and not deficit.observed < deficit.final_observed <= self.size**2:
                raise ValueError("fewer entries are seen during the deficit than afterwards, and those exist")
        return self


class Interruption(Completion):
    """The final task is interrupted by another one, at each of the onsets and for the same time (an extension)."""

    experiment: Literal["interruption"]
    deficit_rank: int = Field(ge=1, description="rank of the other matrix")
    duration: int = Field(ge=1, description="epochs of the interruption")
    onsets: list[Epoch] = Field(min_length=2, description="epochs of the final task before it, ascending from 0")

    @model_validator(mode="after")
    def _in_order(self) -> Interruption:
        if self.onsets != sorted(set(self.onsets)) or self.onsets[0] != 0:
            raise ValueError("onsets ascend from 0")
        if any(time % self.measure_every for time in (*self.onsets, self.duration)):
            raise ValueError("onsets and duration are multiples of measure_every")
        if self.deficit_rank > self.size:
            raise ValueError(f"a matrix of edge {self.size} has rank at most {self.size}")
        return self


class Equations(Settings):
    """Exact evolution of singular values and vectors against gradient descent, through a switch (claim c7)."""

    experiment: Literal["equations"]
    size: int = Field(ge=4, description="edge n of the square matrices")
    depth: Competing = Field(description="matrices D; the equations need a factorisation")
    ranks: tuple[int, int] = Field(description="ranks of the matrices before and after the switch")
    observed: int = Field(ge=1, description="entries that are seen")
    init_scale: float = Field(gt=0, lt=1, description="scale of the initial product, a multiple of the identity")
    jitter: Positive = Field(description="standard deviation of what is added to the diagonal of every matrix")
    rate: Positive = Field(description="learning rate [1/epoch]")
    epochs: int = Field(ge=1, description="epochs of each of the two phases")
    stride: int = Field(ge=1, description="epochs that one Runge-Kutta step of the equations covers")
    measure_every: int = Field(ge=1, description="epochs between comparisons")
    followed: int = Field(ge=1, description="largest singular values that are compared")

    @model_validator(mode="after")
    def _fits(self) -> Equations:
        if max(*self.ranks, self.followed) > self.size or min(self.ranks) < 1 or self.observed > self.size**2:
            raise ValueError(
                f"ranks lie in 1..{self.size}, and so does followed; entries number at most {self.size**2}"
            )
        if self.epochs % self.measure_every or self.measure_every % self.stride:
            raise ValueError("epochs is a multiple of measure_every, and that of stride")
        return self


RunSettings = Annotated[Portrait | Pathways | Transfer | Interruption | Equations, Field(discriminator="experiment")]
