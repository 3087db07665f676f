"""Optimizers, learning rates and averages of weights."""
