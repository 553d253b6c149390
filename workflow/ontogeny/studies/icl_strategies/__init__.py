"""Wurgaft et al. (2025): in-context learning strategies emerge rationally (arXiv 2506.17859)."""
