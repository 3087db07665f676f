"""Pure rules of (facts, now): no clock, no I/O."""
