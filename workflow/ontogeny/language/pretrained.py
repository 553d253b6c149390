"""Pretrained language models that a user names: chosen once, while data are prepared, and the same ever after.

A choice is the name of a source (``smollm2-135m-instruct``), ``hub:<owner>/<repository>[@revision]``, or
``folder:<path>``. `refer` looks at it, and writes down what it found in the study's data folder; `load` gives the
model and its tokenizer from there. Weights come from safetensors or GGUF files, and no code that a model brings along
is run.

A GGUF file is dequantised once, and its weights are kept in the data folder as float32: doing so takes seconds, and
every job needs them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ontogeny.errors import ConfigError, DamagedFile
from ontogeny.files import Folder, OutFolder, sha256, write_json, write_tensors
from ontogeny.sources import Sources

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

RECORD = "model.json"
HUB, FOLDER = "hub:", "folder:"
READ = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # what a model's folder may have that is read
REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_source(choice: str) -> bool:
    """Whether a choice names a source of ``sources.yaml``, which the study's settings then have to ask for."""
    return not choice.startswith((HUB, FOLDER))


def refer(choice: str, sources: Sources, out: OutFolder) -> None:
    """Look at the chosen model and write what identifies it into the data folder.

    Raises ConfigError for a choice that is none, a folder or repository that is not there, a model that is not a
    causal language model, weights that are not safetensors, or a tokenizer that does not fit.
    """
    if choice.startswith(HUB):
        record = _on_the_hub(choice)
    elif choice.startswith(FOLDER):
        record = _in_a_folder(choice)
    else:
        return _dequantise(choice, sources, out)
    _examine(record["place"], record.get("revision"), choice)
    out.save_json(RECORD, record)


def keep(folder: Path, choice: str, out: OutFolder) -> None:
    """Copy a model's folder into the data folder, as the chosen model."""
    _examine(str(folder), None, choice)
    out.adopt(folder)
    out.save_json(RECORD, {"choice": choice, "kept": [path.name for path in _files(folder)]})


def load(data: Folder, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that `refer` wrote down, in float32 and ready for evaluation, and its tokenizer.

    Raises DamagedFile if its files are not those that `refer` saw, ConfigError if it cannot be read.
    """
    from transformers import AutoModelForCausalLM

    record = data.json(RECORD)
    place, revision = _verified(record, data), record.get("revision")
    tokenizer = _examine(place, revision, record["choice"])
    with _explained(record["choice"]):
        model = AutoModelForCausalLM.from_pretrained(
            place, revision=revision, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    model.to(torch.device(device))  # type: ignore[arg-type]
    return model.eval(), tokenizer


def _on_the_hub(choice: str) -> dict[str, Any]:
    """Bring what a repository of the hub holds into the hub's own cache; its revision becomes a fixed one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    match = REPOSITORY.fullmatch(choice.removeprefix(HUB))
    if match is None:
        raise ConfigError(f"model: '{choice}' is no model; write hub:<owner>/<repository>, if need be with @revision.")
    try:
        local = Path(snapshot_download(match["repository"], revision=match["revision"], allow_patterns=list(READ)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"model: '{choice}' cannot be had from the hub ({reason}). Is the name right, can the hub be reached, and "
            "may you read it (models behind a licence need a login)? A copy on disk is named by folder:<path>."
        ) from error
    return {"choice": choice, "place": match["repository"], "revision": local.name}


def _in_a_folder(choice: str) -> dict[str, Any]:
    """The files of a folder with their checksums."""
    folder = Path(choice.removeprefix(FOLDER)).expanduser().absolute()
    if not (folder / "config.json").exists():
        raise ConfigError(f"model: {folder} holds no config.json; is it the folder of a model that transformers saved?")
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(
            f"model: {folder} holds no *.safetensors; other formats of weights are not read. Save the model again: "
            "model.save_pretrained(folder)."
        )
    return {"choice": choice, "place": str(folder), "files": {path.name: sha256(path) for path in _files(folder)}}


def _files(folder: Path) -> list[Path]:
    return sorted({path for pattern in READ for path in folder.glob(pattern)})


def _dequantise(choice: str, sources: Sources, out: OutFolder) -> None:
    """Keep the model of a source, whose file is a GGUF, as float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = sources[choice]
    packed = [name for name in source.names if name.endswith(".gguf")]
    if len(packed) != 1:
        raise ConfigError(f"model: the source '{choice}' has the files {list(source.names)}, and not one GGUF file.")
    path = source.path(packed[0])
    with _explained(choice), tempfile.TemporaryDirectory(dir=out.path.parent) as work:
        folder = Path(work)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
        tied = model.all_tied_weights_keys
        weights = {name: value for name, value in model.state_dict().items() if name not in tied}
        write_json(folder / "config.json", {**config, "architectures": [type(model).__name__]})
        write_tensors(folder / "model.safetensors", weights, {"format": "pt"})
        keep(folder, choice, out)


def _verified(record: dict[str, Any], data: Folder) -> str:
    """Where the model lies, or its name on the hub. Raises DamagedFile if its files are not those that were seen."""
    if "kept" in record:
        for name in record["kept"]:
            data.file(name)
        return str(data.path)
    for name, expected in record.get("files", {}).items():
        path = Path(record["place"]) / name
        if not path.exists() or sha256(path) != expected:
            raise DamagedFile(
                f"{path}: is not the file that the study was prepared with. Put it back, or remove {data.path} to have "
                "the study prepared again with the model as it is now."
            )
    return str(record["place"])


def _examine(place: str, revision: str | None, choice: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises ConfigError unless the two are a causal language model that fits."""
    from transformers import AutoConfig, AutoTokenizer

    with _explained(choice):
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
    check_fit(config, tokenizer, choice)
    return tokenizer


def check_fit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, choice: str) -> None:
    """Raise ConfigError unless this is a causal language model whose embedding has a row for every token."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(f"model: '{choice}' is a {config.model_type}, which is not a causal language model.")
    rows = getattr(config.get_text_config(), "vocab_size", None)
    highest = max(tokenizer.get_vocab().values())
    if rows is not None and highest >= rows:
        raise ConfigError(
            f"model: the tokenizer of '{choice}' gives numbers up to {highest}, but the model has only {rows} "
            "embeddings. They do not belong together."
        )


@contextmanager
def _explained(choice: str) -> Iterator[None]:
    """Turn what transformers raises for a model that it cannot read into a message, and keep its bars off the log."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"model: '{choice}' cannot be read: {reason}") from error
    finally:
        if bars:
            logging.enable_progress_bar()


def context_of(model: PreTrainedModel) -> int:
    """The longest text in tokens that a model takes; a large number if its configuration does not say."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))


def in_words(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[list[int]]:
    """Tokens of texts without those that stand for a start or an end."""
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
