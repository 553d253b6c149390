"""What a user says of a model of their own. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ontogeny.settings import Settings
from ontogeny.sources.registry import CODE_CARRYING


def _tensors(file: str) -> str:
    if Path(file).suffix in CODE_CARRYING:
        raise ValueError(
            f"{file} may carry a pickle, which is never loaded; write the tensors as safetensors: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    if Path(file).suffix != ".safetensors":
        raise ValueError(f"{file} is not a safetensors file")
    return file


TensorFile = Annotated[str, AfterValidator(_tensors)]


class Checkpoint(Settings):
    """Weights at one moment of a training."""

    step: int = Field(ge=0, description="steps of training done")
    file: TensorFile = Field(description="safetensors file, relative to the working folder")


class OwnModel(Settings):
    """Base of what each study asks about a user's model."""

    def files(self) -> tuple[str, ...]:
        """Every file that the examination reads; it runs again when one changes."""
        return ()


class OwnCheckpoints(OwnModel):
    """A model that is followed through training, or one checkpoint of it."""

    checkpoints: list[Checkpoint] = Field(min_length=1, description="in the order of training")

    def files(self) -> tuple[str, ...]:
        """The checkpoints' files."""
        return tuple(checkpoint.file for checkpoint in self.checkpoints)
