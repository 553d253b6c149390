"""One room per paper: every sub-package is a study, found by its ``study.yaml``."""
