"""The atlas: what every study found, as pages, a spreadsheet, a table for a paper, and a record of its origins."""

from ontogeny.report.atlas import build

__all__ = ["build"]
