"""A closed vocabulary: one token a word. Also as a tokenizer that transformers reads.

Texts are words separated by blanks. Token 0 is the end of a text; there is no token for unknown words, so that a word
outside the vocabulary is an error and not a silent change of the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ontogeny.errors import OntogenyError, did_you_mean

END = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """The words of a language, in the order of their ids; the first is END."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> Vocabulary:
        """The different words among these, sorted, after END."""
        return cls((END, *sorted(set(words) - {END})))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Word -> id."""
        return {word: number for number, word in enumerate(self.words)}

    @property
    def end(self) -> int:
        """The id of END."""
        return 0

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text. Raises OntogenyError that names a word which is not in the vocabulary."""
        words = text.split()
        if unknown := next((word for word in words if word not in self.ids), None):
            raise OntogenyError(
                f"the text '{text}' has the word '{unknown}', which the language does not know; "
                f"{did_you_mean(unknown, self.words)}"
            )
        return [self.ids[word] for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        """The inverse of `encode`."""
        return " ".join(self.words[number] for number in ids)

    def tokenizer_json(self) -> str:
        """The same as a tokenizer.json of the tokenizers library."""
        from tokenizers import AddedToken, Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit

        tokenizer = Tokenizer(WordLevel(self.ids, unk_token=END))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        tokenizer.add_special_tokens([AddedToken(END, special=True)])
        return json.dumps(json.loads(tokenizer.to_str()), indent=1) + "\n"
