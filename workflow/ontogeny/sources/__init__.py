"""Data sets and pretrained models: declared in one list, acquired once, verified at every use."""

from ontogeny.sources.acquire import acquire
from ontogeny.sources.cache import BasePaths, Receipt, SourceError, SourceFiles, Sources, cache_root
from ontogeny.sources.registry import SourceSpec, load_registry

__all__ = [
    "BasePaths",
    "Receipt",
    "SourceError",
    "SourceFiles",
    "SourceSpec",
    "Sources",
    "acquire",
    "cache_root",
    "load_registry",
]
