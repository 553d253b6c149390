"""From log-probabilities to priming and memorisation: one row a text and condition."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.outlandish.texts import from_json

LOG10 = np.log(10.0)
FLOOR = 1e-6  # probabilities below count as this in the floored score
KEY = ["seed", "text", "condition", "share", "presentations"]


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """The tables that study.yaml declares."""
    history = pd.concat([run.history for run in runs], ignore_index=True)
    items = from_json(data.json("texts.json")).items
    about = pd.DataFrame(
        [(item.name, item.theme, item.keyword, item.category, _letters(item.text)) for item in items],
        columns=["text", "theme", "keyword", "category", "letters"],
    )
    prefixes = ratios(history, about)
    learned = scores(history, prefixes).merge(about.drop(columns="letters"), on="text", how="left")
    themes = (
        prefixes[(prefixes["condition"] == "alone")]
        .groupby(["seed", "text", "presentations", "theme", "keyword", "probed"], sort=False)["ratio"]
        .mean()
        .map(np.log10)
        .rename("log10_priming")
        .reset_index()
    )
    last = themes["presentations"] == themes["presentations"].max()
    tables = {"texts": portraits(history, about, prefixes), "learned": learned, "themes": themes[last]}
    columns = {"texts": TEXTS, "learned": LEARNED, "themes": THEMES}
    return {name: table[columns[name]].reset_index(drop=True) for name, table in tables.items()}


TEXTS = [
    "seed", "text", "theme", "keyword", "category", "log10_before", "log10_prefix_before", "loss", "entropy", "tokens",
    "letters",
]  # fmt: skip
LEARNED = [
    *KEY, "theme", "keyword", "category", "log10_start", "p_after", "log10_memory", "log10_priming", "log10_geometric",
    "log10_floored", "gain", "log10_cross", "loss_change", "delta_norm", "top_part",
]  # fmt: skip
THEMES = ["seed", "text", "theme", "keyword", "probed", "log10_priming"]


def _letters(text: str) -> float:
    """Mean letters of a word, a stand-in for an index of readability."""
    return float(np.mean([len(word) for word in text.split()]))


def ratios(history: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    """P_after / P_before of the keyword for every text, condition and prefix; probed: the prefix's theme."""
    rows = history[history["kind"] == "prefix"].merge(about, on="text")
    before = rows[rows["condition"] == "before"].set_index(["seed", "text", "place"])["value"]
    rows = rows[rows["condition"] != "before"].reset_index(drop=True)
    start = before.loc[pd.MultiIndex.from_frame(rows[["seed", "text", "place"]])].to_numpy()
    after = rows["value"].to_numpy()
    floored = np.maximum(np.exp(after), FLOOR) / np.maximum(np.exp(start), FLOOR)
    probed = rows["place"].str.split("/").str[0]
    return rows.assign(
        ratio=np.exp(after - start), change=np.exp(after) - np.exp(start), logratio=(after - start) / LOG10,
        floored=floored, probed=probed,
    )  # fmt: skip


def scores(history: pd.DataFrame, prefixes: pd.DataFrame) -> pd.DataFrame:
    """One row a text and condition: priming on the own theme and on others, memorisation, side effects."""
    own = prefixes["probed"] == prefixes["theme"]
    inside = prefixes[own].groupby(KEY, sort=False)
    table = pd.DataFrame(
        {
            "log10_priming": np.log10(inside["ratio"].mean()),
            "log10_geometric": inside["logratio"].mean(),
            "log10_floored": np.log10(inside["floored"].mean()),
            "gain": inside["change"].mean(),
        }
    )
    table["log10_cross"] = np.log10(prefixes[~own].groupby(KEY, sort=False)["ratio"].mean())
    kinds = history[history["kind"].isin(["context", "held_out", "norm", "top"])]
    wide = kinds.pivot_table(index=KEY, columns="kind", values="value", sort=False)
    wide = wide.reindex(columns=["context", "held_out", "norm"]).reindex(table.index)
    table["p_after"] = np.exp(wide["context"])
    table["delta_norm"] = wide["norm"]
    table = table.reset_index()
    base = history[(history["kind"] == "held_out") & (history["condition"] == "before")].set_index("seed")["value"]
    table["loss_change"] = wide["held_out"].to_numpy() / base.loc[table["seed"]].to_numpy() - 1
    top = history[history["kind"] == "top"].set_index(["seed", "text"])["value"]
    table["top_part"] = top.reindex(pd.MultiIndex.from_frame(table[["seed", "text"]])).to_numpy()
    table["log10_start"] = _started(history, table)
    table["log10_memory"] = np.log10(table["p_after"]) - table["log10_start"]
    return table


def _started(history: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """log10 of the keyword's probability before, in the context that is learned: for a rewritten text its own."""
    contexts = history[(history["kind"] == "context") & (history["presentations"] == 0)]
    found = contexts.set_index(["seed", "text", "condition"])["value"]
    where = table["condition"].where(table["condition"].isin(["stone", "plain"]), "before")
    keys = pd.MultiIndex.from_arrays([table["seed"], table["text"], where])
    return found.loc[keys].to_numpy() / LOG10


def portraits(history: pd.DataFrame, about: pd.DataFrame, prefixes: pd.DataFrame) -> pd.DataFrame:
    """Every text before it is learned: the keyword's probability, and what else could predict its priming."""
    before = history[(history["condition"] == "before") & (history["text"] != "")]
    wide = before[before["kind"] != "prefix"].pivot_table("value", ["seed", "text"], "kind", sort=False)
    rows = before[before["kind"] == "prefix"].merge(about, on="text")
    own = rows[rows["place"].str.split("/").str[0] == rows["theme"]]
    chance = own.assign(p=np.exp(own["value"])).groupby(["seed", "text"])["p"].mean()
    wide = wide.assign(log10_before=wide["context"] / LOG10, log10_prefix_before=np.log10(chance))
    return wide.reset_index().merge(about, on="text")
