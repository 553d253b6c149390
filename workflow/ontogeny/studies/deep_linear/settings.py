"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class DataSettings(Settings):
    """Arguments of `prepare`: second moments of MNIST."""

    images: int = Field(ge=1000, le=60_000, description="how many training images are used, from the first on")
    images_per_block: int = Field(ge=100, description="moments are summed by blocks of so many images")
    components: int = Field(ge=10, le=784, description="leading principal components of the images that are kept")

    @model_validator(mode="after")
    def _whole_blocks(self) -> DataSettings:
        if self.images % self.images_per_block or self.images < 2 * self.images_per_block:
            raise ValueError("images is a multiple of images_per_block, and holds at least two blocks")
        return self


class Tree(Settings):
    """Three-layer networks that learn items with hierarchical features (claims c1 to c4)."""

    experiment: Literal["tree"]
    networks: list[Literal["linear", "tanh", "tanh_output"]] = Field(
        min_length=1, description="linear; tanh hidden units with a linear output; tanh hidden and output units"
    )
    items: int = Field(ge=4, description="leaves of the binary tree, a power of two; inputs are one-hot")
    features: int = Field(ge=8, description="binary features of each item")
    flip_probability: float = Field(gt=0, lt=0.5, description="chance that a branch of the tree flips a feature")
    hidden: int = Field(ge=1, description="hidden units N2")
    initial_strengths: list[Positive] = Field(
        min_length=1, description="expected initial mode strength u0; weights have variance 2 u0 / N2"
    )
    learning_rates: list[Positive] = Field(
        min_length=1, description="lambda = 1/tau, for sums over items [1/iteration]"
    )
    iterations: int = Field(ge=10, description="passes over all items")
    measure_every: int = Field(ge=1, description="iterations between measurements of the mode strengths")
    listed_modes: list[Count] = Field(min_length=1, description="ranks of the modes whose curves are shown")

    @model_validator(mode="after")
    def _binary_tree(self) -> Tree:
        if self.items & (self.items - 1):
            raise ValueError("items is a power of two, the leaves of a binary tree")
        if self.features < self.items:
            raise ValueError("features is at least items, or the modes cannot be independent")
        return self


class Grid(Settings):
    """A logarithmic grid of learning rates around the rate that theory expects to be optimal."""

    lowest: float = Field(gt=0, description="lowest rate [multiples of the predicted rate]")
    highest: float = Field(gt=0, description="highest rate [multiples of the predicted rate]")
    points: int = Field(ge=2, description="number of rates")


class Greedy(Settings):
    """Greedy pretraining: each hidden layer is the first matrix of an autoencoder of the layer below."""

    start_sd: float = Field(gt=0, description="standard deviation of an autoencoder's initial weights")
    rate: float = Field(gt=0, lt=1, description="learning rate, the largest input variance being 1 [1/iteration]")
    tolerance: float = Field(gt=0, lt=1, description="an autoencoder stops within this share of variance of its best")
    iterations: int = Field(ge=10, description="most iterations of an autoencoder")


class Learner(Settings):
    """What all deep linear networks that are timed on MNIST have in common."""

    components: int = Field(ge=10, description="principal components that make the input")
    hidden: int = Field(ge=10, description="width of every hidden layer")
    rates: Grid
    threshold: float = Field(gt=0, lt=1, description="learned: excess error below this share of that of a silent net")
    hold: int = Field(ge=1, description="iterations for which the error must go on falling after that")
    iterations: int = Field(ge=10, description="most iterations before a network counts as not having learned")
    batch_mb: float = Field(gt=0, description="weights that are trained together [MB]; the size of a cache")


class Depth(Learner):
    """Deep linear networks on whitened MNIST from one kind of start (claims c5 and c6)."""

    experiment: Literal["depth"]
    start: Literal["decoupled", "orthogonal", "pretrained", "gaussian"]
    layers: list[Annotated[int, Field(ge=3)]] = Field(
        min_length=2, description="layers of neurons N_l, input and output included; N_l - 1 weight matrices"
    )
    initial_strength: float | None = Field(
        gt=0, lt=1, description="decoupled start only: u0, in units of the strongest mode"
    )
    pretraining: Greedy | None = Field(description="pretrained start only: how the hidden layers are made")

    @model_validator(mode="after")
    def _what_the_start_needs(self) -> Depth:
        if (self.initial_strength is None) == (self.start == "decoupled"):
            raise ValueError("initial_strength is given for the decoupled start, and null for the others")
        if (self.pretraining is None) == (self.start == "pretrained"):
            raise ValueError("pretraining is given for the pretrained start, and null for the others")
        return self

    @model_validator(mode="after")
    def _room_for_all_modes(self) -> Depth:
        if self.hidden < self.components:
            raise ValueError("hidden is at least components, or an orthogonal start would lose inputs")
        return self


class Pretraining(Learner):
    """Five-layer networks on MNIST that is not whitened: random start against greedy pretraining (claim c8)."""

    experiment: Literal["pretraining"]
    task: Literal["mnist", "mismatched"] = Field(
        description="MNIST, or a task with random right singular vectors on the same inputs"
    )
    layers: int = Field(ge=3, description="layers of neurons N_l")
    start_sd: float = Field(gt=0, description="standard deviation of random initial weights")
    pretraining: Greedy
    curve_every: int = Field(ge=1, description="iterations between points of the first seed's learning curve")


class Products(Settings):
    """Spectra of products of random matrices (claim c7)."""

    experiment: Literal["products"]
    width: int = Field(ge=4, description="rows and columns of every factor")
    factors: list[Count] = Field(min_length=2, description="numbers of factors, increasing")


class Jacobian(Settings):
    """Jacobians of deep tanh networks with orthogonal weights (claim c7)."""

    experiment: Literal["jacobian"]
    width: int = Field(ge=4, description="neurons of every layer")
    layers: int = Field(ge=2, description="layers of neurons; the Jacobian has one factor less")
    gains: list[Positive] = Field(min_length=1, description="gain g of the orthogonal weights")
    powers: list[Positive] = Field(min_length=1, description="mean square q of the first layer's input")


RunSettings = Annotated[Tree | Depth | Pretraining | Products | Jacobian, Field(discriminator="experiment")]
