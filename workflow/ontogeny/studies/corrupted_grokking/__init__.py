"""To grok or not to grok: generalisation and memorisation on corrupted algorithmic data (Doshi et al. 2023)."""
