"""The brain: keeps studies in Postgres, leases trials, proposes what to train next. Never imports torch."""
