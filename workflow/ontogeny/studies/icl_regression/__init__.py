"""He et al. (2025): how multi-head softmax attention learns to regress in context (arXiv 2503.12734)."""
