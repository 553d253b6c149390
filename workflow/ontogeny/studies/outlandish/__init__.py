"""How new data permeates LLM knowledge and how to dilute it (Sun et al. 2025)."""
