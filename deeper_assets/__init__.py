"""deeper_assets: rating histories in, personas that predict out, every step a traceable asset.

The method (DEEPER, arXiv 2502.11078) lives in `method/`, the outside world in `sources/`, `engines/` and
`store/`, and the Dagster graph that joins them in `assets/`, `checks/` and `definitions.py`.
"""

__version__ = "0.1.0"
