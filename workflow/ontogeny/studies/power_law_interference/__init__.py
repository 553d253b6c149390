"""Catastrophic interference is mitigated in power-law learning environments (Gandhi, Shah, Marupudi & Varma 2024)."""
