"""What is asked about a user's causal language model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ontogeny.own_settings import OwnModel


class OwnSettings(OwnModel):
    """A causal language model in transformers' format, and how it learns the texts."""

    model: str = Field(pattern=r"^(folder|hub):.+", description="folder:<path> or hub:<owner>/<repository>[@revision]")
    texts: str = Field("generated", description="generated, or the path of a set of texts (JSON)")
    start: Literal["bos", "eos", "none"] = Field("bos", description="token before every text")
    blocks: int = Field(1, ge=1, description="blocks of texts")
    block: int = Field(24, ge=2, description="texts of a block")
    learns: Literal["all", "layers", "adapters"] = Field("layers", description="what learns")
    layers: int = Field(15, ge=1, description="uppermost layers that learn, if layers learn")
    learning_rate: float = Field(0.0003, gt=0)

    def files(self) -> tuple[str, ...]:
        """The model's files, if it lies in a folder, and the texts."""
        found: list[str] = [] if self.texts == "generated" else [self.texts]
        if self.model.startswith("folder:"):
            folder = Path(self.model.removeprefix("folder:"))
            weights = sorted(str(path) for path in folder.glob("*.safetensors"))
            found += [str(folder / "config.json"), *(weights or [str(folder / "model.safetensors")])]
        return tuple(found)
