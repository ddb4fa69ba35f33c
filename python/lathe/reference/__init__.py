"""Lathe held against transformers, operation by operation.

    python -m lathe.reference MODEL_DIR [--candidate MODEL]

from Python: `compare_folders`, or `compare` for models that are loaded already. Needs torch and transformers.
"""
from .compare import Greedy, Operation, Report, compare, compare_folders, load_reference
from .taps import Reference

__all__ = ["Greedy", "Operation", "Reference", "Report", "compare", "compare_folders", "load_reference"]
