"""Language models: small ones trained from scratch, many at once, and pretrained ones through transformers."""
