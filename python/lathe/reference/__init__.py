"""Lathe held against transformers, operation by operation.

    python -m lathe.reference MODEL_DIR [--candidate MODEL]

from Python: `compare_folders`, or `compare` for models that are loaded already. Needs torch and transformers.
"""
__all__ = ["Greedy", "Operation", "Reference", "Report", "compare", "compare_folders", "load_reference"]


def __getattr__(name):  # torch is imported when it is used, so that the command can say what is missing
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import comparison
    return getattr(comparison, name)
