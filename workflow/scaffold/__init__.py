"""FILL IN: the paper in one line."""
