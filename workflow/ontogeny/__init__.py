"""Ontogeny: the developmental biology of neural networks."""
