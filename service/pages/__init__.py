"""What people look at in a browser: the Optuna Dashboard, read-only and behind our guard."""
