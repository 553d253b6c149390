"""What a user says of a model of their own. Imports no torch: it is read before any job starts.

python -m ontogeny.own_settings corrupted_grokking        every field that a study asks about, with its meaning
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, Field

from ontogeny.errors import did_you_mean
from ontogeny.rooms import part, with_own_models
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


def explain(model: type[Settings], indent: str = "") -> list[str]:
    """A line for each field of a settings model, fields of fields below it."""
    lines = []
    for name, about in model.model_fields.items():
        default = "" if about.is_required() else f" (default: {about.default})"
        kind = str(about.annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")
        nested = next((cls for cls in _models_in(about.annotation)), None)
        shown = kind if nested is None else nested.__name__ + (", a list" if "list" in kind else "")
        lines.append(f"{indent}{name}: {shown}{default}{f' - {about.description}' if about.description else ''}")
        if nested is not None:
            lines += explain(nested, indent + "    ")
    return lines


def _models_in(annotation: object) -> list[type[Settings]]:
    inner = [leaf for part in get_args(annotation) for leaf in _models_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, Settings) else inner


def main(arguments: list[str]) -> int:
    """The command line: the slug of a study."""
    if len(arguments) != 1 or arguments[0] not in with_own_models():
        hint = did_you_mean(arguments[0] if arguments else "", with_own_models())
        print(f"name a study that examines models of yours; {hint}", file=sys.stderr)
        return 2
    print("\n".join(explain(part(arguments[0], "own_settings").OwnSettings)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
