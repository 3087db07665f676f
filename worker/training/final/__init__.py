"""The end of a study: the sealed test split, and the linear probe beside it."""
