"""Small trained models as folders that transformers loads: config.json, model.safetensors and the tokenizer's files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ontogeny.errors import ConfigError
from ontogeny.files import read_json, read_tensors, write_json, write_tensors, write_text
from ontogeny.language.llama import Architecture, from_pretrained, to_pretrained
from ontogeny.language.vocabulary import END, Vocabulary


def write_model(folder: Path, architecture: Architecture, network: Tensor, vocabulary: Vocabulary) -> None:
    """Write one network (P,) so that AutoModelForCausalLM and AutoTokenizer read the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", architecture.config(vocabulary.end))
    write_tensors(folder / "model.safetensors", to_pretrained(architecture, network), {"format": "pt"})
    write_text(folder / "tokenizer.json", vocabulary.tokenizer_json())
    special = {"bos_token": END, "eos_token": END, "pad_token": END, "unk_token": END}
    limit = {"model_max_length": architecture.context, "tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(folder / "tokenizer_config.json", {**special, **limit})


def read_model(folder: Path) -> tuple[Architecture, Tensor]:
    """A network that `write_model` (or transformers) wrote, as a stack can use it.

    Raises ConfigError if the folder holds no Llama of the kind that `Architecture` describes, DamagedFile if a file is.
    """
    config = read_json(folder / "config.json")
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if lacking := [key for key in (*sizes, "max_position_embeddings") if key not in config]:
        raise ConfigError(f"{folder / 'config.json'}: lacks {', '.join(lacking)}; is it a model's configuration?")
    architecture = Architecture(*(config[key] for key in (*sizes, "max_position_embeddings")))
    expected = architecture.config(config.get("eos_token_id") or 0)
    for key in ("model_type", "num_key_value_heads", "hidden_act", "rms_norm_eps", "tie_word_embeddings"):
        if config.get(key) != expected[key]:
            raise ConfigError(
                f"{folder / 'config.json'}: {key} is {config.get(key)!r}; a stack of small models needs "
                f"{expected[key]!r}. Other models are loaded through transformers."
            )
    return architecture, from_pretrained(architecture, read_tensors(folder / "model.safetensors"))
