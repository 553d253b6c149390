"""One function for each claim: reduce each seed to one number, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ontogeny.statistics import Estimate, Interval


def c1(tables: Mapping[str, pd.DataFrame], interval: Interval) -> dict[str, Estimate]:
    """The weight decays at the predicted rate."""
    per_seed = tables["rates"].groupby("seed")["relative_error"].mean()
    return {"relative_error": interval.mean(per_seed)}
