"""The SQL room: one module of verbs per noun, over Optuna's tables and ours in one transaction.

Each verb of the lease protocol is one SQL statement, and so one transaction: what it says of the lease and what it says of
the Optuna trial are stored together or not at all.
"""
