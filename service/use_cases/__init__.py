"""Load, decide, store: one verb of the service each. Knows no HTTP and no SQL."""
