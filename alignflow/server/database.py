"""Whether a database answers, before a server is started on it."""

from __future__ import annotations

import asyncio

from alignflow.data.errors import UserError
from alignflow.server.environment import with_driver
from alignflow.server.settings import SQLITE, ServerSettings, without_secrets

TIMEOUT_S = 10


def check_database(settings: ServerSettings) -> None:
    """Raise UserError with PostgreSQL's message if the database cannot be used. SQLite needs no check."""
    if settings.database == SQLITE:
        return
    import asyncpg
    import sqlalchemy

    async def ask() -> None:
        url = sqlalchemy.make_url(with_driver(settings.database))
        connection = await asyncpg.connect(
            **url.translate_connect_args(username="user"), **url.query, timeout=TIMEOUT_S
        )
        await connection.close()

    try:
        asyncio.run(ask())
    except (
        OSError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        sqlalchemy.exc.ArgumentError,
        TypeError,
        ValueError,
    ) as error:
        said = without_secrets(str(error) or type(error).__name__, settings.database)
        raise UserError(
            f"the database cannot be used ({said})",
            where=f"--database {settings.shown_database}",
            do="start PostgreSQL, create the database and its user, or pass --database sqlite",
        ) from None
