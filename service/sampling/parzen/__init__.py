"""The tree-structured Parzen estimator, in arrays: Optuna's mathematics over a study's columns."""

from service.sampling.parzen.estimator import TPE, Split

__all__ = ["TPE", "Split"]
