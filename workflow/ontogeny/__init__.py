"""Ontogeny: the developmental biology of neural networks."""

import gc

gc.set_threshold(100_000)  # torch and the figures make many objects that stay; searching them took a sixth of imports
