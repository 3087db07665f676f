"""Random changes to training pictures, and mixtures of them."""
