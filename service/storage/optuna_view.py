"""A storage object of Optuna's own on our database, for the dashboard to read."""

import warnings

import optuna
from optuna.storages import BaseStorage

from service.storage.engine import Database


def cached(database: Database) -> BaseStorage:
    """Optuna's cached storage: a bare `RDBStorage` reads every trial anew for each page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = optuna.storages.RDBStorage(
            database.engine.url.render_as_string(hide_password=False),
            engine_kwargs={
                "pool_size": 4,
                "max_overflow": 0,
                "pool_pre_ping": True,
                "connect_args": {"options": "-csearch_path=public -ctimezone=UTC"},
            },
        )
    return optuna.storages.get_storage(backend)
