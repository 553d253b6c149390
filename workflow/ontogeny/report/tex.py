"""Text as LaTeX: everything escaped, signs and Greek letters by their names, so that pdflatex takes it as it is."""

from __future__ import annotations

import re
import unicodedata

ASCII = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "\n": " ",
    "\t": " ",
}
PUNCTUATION = {
    "–": "--",
    "—": "---",
    "‑": "-",
    "“": "``",
    "”": "''",
    "„": "``",
    "‘": "`",
    "’": "'",
    "…": r"\dots{}",
    "§": r"\S{}",
    "†": r"\dag{}",
    "•": r"\textbullet{}",
    "\u00a0": "~",
    "\u202f": "~",
    "\u2009": r"\,",
}
SIGNS = {
    "−": "-",
    "×": r"\times",
    "÷": r"\div",
    "·": r"\cdot",
    "±": r"\pm",
    "∓": r"\mp",
    "≥": r"\geq",
    "≤": r"\leq",
    "≠": r"\neq",
    "≈": r"\approx",
    "≡": r"\equiv",
    "≃": r"\simeq",
    "∼": r"\sim",
    "≪": r"\ll",
    "≫": r"\gg",
    "∝": r"\propto",
    "√": r"\surd",
    "∞": r"\infty",
    "∂": r"\partial",
    "∇": r"\nabla",
    "∑": r"\sum",
    "Σ": r"\Sigma",
    "∏": r"\prod",
    "∫": r"\int",
    "∈": r"\in",
    "∉": r"\notin",
    "⊂": r"\subset",
    "⊆": r"\subseteq",
    "∪": r"\cup",
    "∩": r"\cap",
    "∅": r"\emptyset",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "↔": r"\leftrightarrow",
    "↦": r"\mapsto",
    "⇒": r"\Rightarrow",
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "‖": r"\|",
    "∥": r"\|",
    "⟨": r"\langle",
    "⟩": r"\rangle",
    "⊗": r"\otimes",
    "⊙": r"\odot",
    "⊕": r"\oplus",
    "∘": r"\circ",
    "°": r"^{\circ}",
    "′": r"^{\prime}",
    "″": r"^{\prime\prime}",
    "ᵀ": r"^{T}",
    "⊤": r"\top",
    "⊥": r"\perp",
    "∧": r"\wedge",
    "∨": r"\vee",
    "¬": r"\neg",
    "∀": r"\forall",
    "∃": r"\exists",
    "ℓ": r"\ell",
    "µ": r"\mu",
    "ϵ": r"\epsilon",
    "ϕ": r"\phi",
    "ϑ": r"\vartheta",
}
LATIN_LOOKALIKES = {"omicron": "o"}  # Greek letters for which LaTeX has no command
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋]+")


def escape(text: str) -> str:
    """`text` as LaTeX source for text mode; in math mode its numbers work too."""
    text = re.sub(r'"([^"]*)"', "“\\1”", unicodedata.normalize("NFC", text)).replace("--", "-\u200b-")
    pieces = re.split(f"({RAISED.pattern}|{LOWERED.pattern})", text)
    return "".join(_script(piece) or "".join(map(_character, piece)) for piece in pieces)


def _script(piece: str) -> str | None:
    """A run of raised or lowered digits; None for anything else."""
    plain = unicodedata.normalize("NFKC", piece).replace("−", "-")
    if RAISED.fullmatch(piece):
        return rf"\ensuremath{{^{{{plain}}}}}"
    return rf"\ensuremath{{_{{{plain}}}}}" if LOWERED.fullmatch(piece) else None


def _character(char: str) -> str:
    if char in ASCII or (char.isascii() and char.isprintable()):
        return ASCII.get(char, char)
    if char in PUNCTUATION:
        return PUNCTUATION[char]
    if char in SIGNS:
        return rf"\ensuremath{{{SIGNS[char]}}}"
    if "À" <= char <= "ſ":  # accented Latin letters, which LaTeX reads as UTF-8
        return char
    return _greek(char) or _fallback(char)


def _greek(char: str) -> str | None:
    """A Greek letter by its name; capitals that look Latin are Latin."""
    match = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)", unicodedata.name(char, ""))
    if match is None:
        return None
    name = match.group(2).lower().replace("lamda", "lambda")
    if match.group(1) == "SMALL":
        return LATIN_LOOKALIKES.get(name) or rf"\ensuremath{{\{name}}}"
    special = {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"}
    lookalikes = {"eta": "H", "rho": "P", "chi": "X", "nu": "N"}
    return rf"\ensuremath{{\{name.capitalize()}}}" if name in special else lookalikes.get(name, name[0].upper())


def _fallback(char: str) -> str:
    """The nearest plain letters; the code point's number where there are none; nothing for marks and formats."""
    if unicodedata.category(char)[0] in "MC":
        return "{}" if char == "\u200b" else ""
    plain = unicodedata.normalize("NFKD", char)
    if plain != char:
        return "".join(map(_character, plain))
    return f"U+{ord(char):04X}"
