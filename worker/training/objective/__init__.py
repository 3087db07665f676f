"""Losses, targets and metrics, and the scores of a model on a split."""
