"""Epochs: one training's, or those of several heads in one computation."""
