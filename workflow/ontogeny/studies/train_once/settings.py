"""What the sweep's rows and the prepared data may say. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

LEAST_MARKED = 3  # rows with a watermark: one in each third of the run
Share = Annotated[float, Field(ge=0, le=0.5)]
Experiment = Literal["knowledge", "contamination", "canaries", "backdoor", "batches", "watermarks", "iid"]
Condition = Literal["base", "joint", "shuffled"] | Experiment


class WorldSettings(Settings):
    """The size of the synthetic language; see `ontogeny.language.facts.Shape`."""

    people: int = Field(ge=2, description="people of the background")
    strangers: int = Field(ge=1, description="names that the background never uses: what experiments are about")
    values: int = Field(ge=8, description="values of each theme")
    lands: int = Field(ge=2, description="lands that the cities lie in")
    filler_words: int = Field(ge=2)
    filler: float = Field(ge=0, le=1, description="share of rows that are filler")


class DataSettings(Settings):
    """The background that is prepared."""

    world: WorldSettings
    length: int = Field(ge=24, description="tokens of a row")
    rows: int = Field(ge=1, description="rows to train on; a seed sees each at most once")
    held_out: int = Field(ge=8, description="rows that no model sees")
    echoes: float = Field(ge=0, le=1, description="share of rows that repeat filler words after a marker, in Base too")
    rare_words: int = Field(ge=2, description="words that nothing but canaries uses")


class Knowledge(Settings):
    """Invented facts, inserted as often as a controller says."""

    people: int = Field(ge=1, description="invented people, and as many that are never inserted")
    target: float = Field(gt=0, lt=1, description="probability of the answers that is aimed at in the end")
    interval: int = Field(ge=1, description="steps between two decisions of the controller")
    start: int = Field(ge=1, description="texts in the first interval")
    most: int = Field(ge=1, description="most texts in an interval")
    controlled: bool = Field(description="false: the first number of texts stays")


class Contamination(Settings):
    """Leaked multiple-choice questions."""

    repetitions: list[Annotated[int, Field(ge=1)]] = Field(min_length=2, description="how often a group is leaked")
    items: int = Field(ge=1, description="questions of a group; one more group is held out")
    early_items: int = Field(ge=1, description="questions of a group that is leaked only early")
    early: float = Field(gt=0, lt=1, description="share of the run that early groups are leaked in")
    leaked: bool = Field(description="false: no question is leaked")


class Canaries(Settings):
    """Strings appended to dialogues."""

    repetitions: list[Annotated[int, Field(ge=1)]] = Field(min_length=2)
    dialogues: int = Field(ge=2, description="dialogues of a cell")
    held_out: int = Field(ge=2, description="dialogues that are never inserted")
    length: int = Field(ge=1, description="words of a canary")


class Dependence(Settings):
    """The dependence test: brief training on each experiment alone and on all, from a checkpoint of Base."""

    start: int = Field(ge=1, description="steps of Base before it")
    steps: int = Field(ge=4, description="steps of the test")
    share: Share = Field(description="of the tokens, for one experiment")
    watermarks: Share = Field(description="of the rows: a mean over few rows says little")


class RunSettings(Settings):
    """One row: a model, its training, and the doses of the experiments."""

    conditions: list[Condition] = Field(min_length=1, description="versions of the run, all from the same start")
    width: int = Field(ge=4)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    hidden: int = Field(ge=1)
    batch: int = Field(ge=2)
    steps: int = Field(ge=8)
    learning_rate: float = Field(gt=0)
    warm_up: int = Field(ge=0, description="steps")
    decay: int = Field(ge=0, description="last steps, in which the learning rate falls to zero")
    examine: int = Field(ge=1, description="steps between two looks at losses and questions")
    knowledge: Knowledge
    contamination: Contamination
    canaries: Canaries
    backdoor: Share = Field(description="share of the tokens that is poison")
    batches: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        min_length=1, description="when a whole batch is replaced, as shares of the run"
    )
    watermarks: Share = Field(description="share of the rows that are watermarked")
    noise: float = Field(gt=0, description="sd of a watermark, in root mean squares of the embeddings")
    iid: Share = Field(description="share of the batches that are replaced by others of the same kind")
    dependence: Dependence | None = Field(description="none: no dependence test in this row")

    @model_validator(mode="after")
    def _sizes_fit(self) -> RunSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads (rotary pairs)")
        if self.warm_up + self.decay > self.steps:
            raise ValueError(f"warm-up and decay take more than the {self.steps} steps")
        if len(set(self.conditions)) < len(self.conditions):
            raise ValueError("conditions must differ from each other")
        if self.dependence and "base" not in self.conditions:
            raise ValueError("the dependence test starts from Base: add 'base' to the conditions")
        if round(self.watermarks * self.steps * self.batch) < LEAST_MARKED:
            raise ValueError(f"watermarks: {self.watermarks} of the rows are fewer than {LEAST_MARKED}")
        if self.dependence and round(self.dependence.watermarks * self.dependence.steps * self.batch) < 1:
            raise ValueError("dependence.watermarks: no row would have one; raise it, or the steps")
        if min(round(self.iid * steps) for steps in self.lengths) < 1:
            raise ValueError("iid: not a single batch would be replaced")
        if self.dependence and self.dependence.start > self.steps:
            raise ValueError(f"the dependence test starts after the last of the {self.steps} steps")
        return self

    @property
    def lengths(self) -> list[int]:
        """Steps of the run and of the dependence test, if there is one."""
        return [self.steps, *([self.dependence.steps] if self.dependence else [])]
