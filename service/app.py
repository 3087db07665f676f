"""Assembly: settings in, an ASGI application out. Nothing happens before its lifespan begins."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp

from service import housekeeping
from service.api import (
    datasets,
    events,
    health,
    imports,
    leases,
    priors,
    problems,
    studies,
    workers,
)
from service.api.dependencies import require_ready
from service.api.fast_path import FastRoutes
from service.api.limits import TooLargeAsProblem
from service.api.long_poll import LongPoll
from service.api.security import Guard
from service.domain.facts import Changes, Cursor
from service.housekeeping import Readiness
from service.pages import home
from service.pages.dashboard import Dispatcher, optuna_dashboard
from service.sampling import Sampling
from service.settings import Settings
from service.storage import bell, engine, history, optuna_view
from service.storage.artifacts import Folder
from service.storage.engine import Database
from service.use_cases import health as health_rules
from service.use_cases.context import Context
from service.use_cases.fast import FastPath
from service.waiting import Waiters

LARGEST_BODY_BYTES = 1 << 20


def create_app(settings: Settings, readiness: Readiness | None = None) -> ASGIApp:
    """Put the rooms together around the database that the settings name; `readiness` lets the caller say when it leaves.

    Raises:
        ValueError: the settings name no database, or one that is not Postgres.
    """
    if settings.database_url is None:
        raise ValueError("no database: set TRIMTAB_DATABASE_URL")
    database = engine.connect(
        settings.database_url.get_secret_value(), pool_size=settings.pool_size
    )
    context = Context(database, _sampling(database), Folder(settings.artifacts))
    readiness = Readiness() if readiness is None else readiness
    waiters = Waiters()
    readiness.wake = waiters.ring
    long_poll = LongPoll(FastPath(context), waiters, readiness)
    api = _api(context, long_poll, settings)
    dispatcher = Dispatcher(
        FastRoutes(
            TooLargeAsProblem(api),
            leases.fast_routes(long_poll),
            check=partial(require_ready, readiness),
        ),
        check=partial(_check, context, readiness),
        make=lambda: optuna_dashboard(optuna_view.cached(database)),
        refuse=problems.respond,
    )
    token = settings.token.get_secret_value() if settings.token else None
    return Guard(dispatcher, token)


def _api(context: Context, long_poll: LongPoll, settings: Settings) -> FastAPI:
    app = FastAPI(
        title="trimtab",
        version=version("trimtab"),
        lifespan=partial(_lifespan, context, long_poll, settings),
        responses=problems.DECLARED,
        max_body_size=LARGEST_BODY_BYTES,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
    )
    app.state.context, app.state.long_poll = context, long_poll
    app.state.readiness, app.state.waiters = long_poll.readiness, long_poll.waiters
    app.state.fast_path = long_poll.fast_path
    for room in (studies, imports, datasets, priors, leases, workers, events, health, home):
        app.include_router(room.router)
    problems.install(app)
    return app


@asynccontextmanager
async def _lifespan(
    context: Context,
    long_poll: LongPoll,
    settings: Settings,
    _app: FastAPI,
) -> AsyncGenerator[None]:
    stop = threading.Event()
    waiters, readiness = long_poll.waiters, long_poll.readiness
    waiters.bind(asyncio.get_running_loop())
    listener = threading.Thread(
        target=bell.listen,
        args=(context.database, waiters.ring, stop),
        name="bell",
        daemon=True,
    )
    collector = threading.Thread(
        target=partial(housekeeping.collect, context, stop, kept_s=settings.artifacts_kept_s),
        name="collector",
        daemon=True,
    )

    def on_ready() -> None:
        listener.start()
        collector.start()

    keeper = threading.Thread(
        target=partial(
            housekeeping.keep,
            context,
            readiness,
            stop,
            every_s=settings.sweep_every_s,
            on_ready=on_ready,
            ring=waiters.ring,
        ),
        name="housekeeping",
        daemon=True,
    )
    keeper.start()
    yield
    stop.set()
    await asyncio.to_thread(keeper.join, 5.0)
    long_poll.fast_path.close()
    context.database.dispose()


def _sampling(database: Database) -> Sampling:
    def read(study_id: int, cursor: Cursor | None) -> Changes:
        with database.statements() as connection:
            return history.changes(connection, study_id, cursor)

    return Sampling(read, time.monotonic)


def _check(context: Context, readiness: Readiness) -> None:
    require_ready(readiness)
    health_rules.check(context)
