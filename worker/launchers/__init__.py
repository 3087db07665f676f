"""Starts workers where an engine runs them: each launcher only starts `worker start`, and leaves."""
