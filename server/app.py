"""The composition root: everything is made here, and closed in the opposite order."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import structlog
from aiohttp import web

from auth.jwks import JwksKeys
from auth.keys import KeySource, StaticKeys
from auth.tokens import TokenVerifier
from handlers.delivery import Delivery
from handlers.fanout import Fanout
from handlers.healing import Healing
from handlers.services import Services
from realtime.cluster import Cluster
from realtime.server import Server
from server.gateway import Gateway
from server.http.health import setup_health
from server.http.pages import setup_pages
from server.origins import origin_check
from server.settings import Settings
from server.signing import development_tokens
from server.telemetry import Metrics
from storage.members import MemberStore
from storage.messages import MessageLog
from storage.migrations import migrate
from storage.mongo import Mongo, is_outage
from storage.rooms import RoomStore
from storage.users import UserStore

log = structlog.get_logger()


def utc_now() -> datetime:
    """The time in UTC, in whole milliseconds, as MongoDB keeps it and the wire shows it."""
    return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)


def create_app(settings: Settings, *, mongodb_url: str, redis_url: str) -> web.Application:
    """One node as an aiohttp application, to be made inside the running loop.

    It connects at start-up and closes everything at clean-up. Start-up raises UnsuitableStore for a MongoDB that is
    not there or cannot keep the promises; Redis may be away.
    """
    metrics = Metrics()
    mongo = Mongo(mongodb_url, settings.mongodb_db)
    members, rooms, users = MemberStore(mongo, utc_now), RoomStore(mongo, utc_now), UserStore(mongo, utc_now)
    messages = MessageLog(mongo, utc_now, metrics.commit_batch.observe)
    cluster = Cluster(redis_url, settings.redis_prefix, uuid.uuid4().hex[:12])
    server = Server(
        ping_interval_ms=settings.ping_interval_ms,
        ping_timeout_ms=settings.ping_timeout_ms,
        max_payload_bytes=settings.max_payload_bytes,
        origin_allowed=origin_check(settings.cors_origins, settings.environment),
    )
    delivery = Delivery(server.manager, cluster, messages)
    fanout = Fanout(server.manager, cluster, delivery, messages)
    healing = Healing(cluster, delivery, fanout, members, is_outage)
    services = Services(utc_now, rooms, members, users, messages, fanout, delivery)
    keys = _key_source(settings)
    verifier = TokenVerifier(keys, now=time.time, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    server.register_namespace(Gateway(verifier, services, metrics, {"maxPayloadBytes": settings.max_payload_bytes}))

    async def stores(app: web.Application) -> AsyncIterator[None]:
        try:
            await mongo.check()
            if applied := await migrate(mongo, now=utc_now):
                log.info("database migrated", migrations=applied)
            yield
        finally:
            await messages.close()
            await asyncio.gather(members.close(), rooms.close(), users.close())
            await mongo.close()

    async def bus(app: web.Application) -> AsyncIterator[None]:
        await cluster.start()
        healing.start()
        yield
        await healing.close()
        await asyncio.gather(delivery.close(), fanout.close())
        await cluster.stop()

    async def token_keys(app: web.Application) -> AsyncIterator[None]:
        if isinstance(keys, JwksKeys):
            await keys.start()
        yield
        if isinstance(keys, JwksKeys):
            await keys.stop()

    async def drain(app: web.Application) -> None:
        # Before aiohttp waits for its handlers: an open websocket is one.
        await server.shutdown()

    app = web.Application()
    app.cleanup_ctx.extend([stores, token_keys, bus])
    app.on_shutdown.append(drain)
    server.attach_to(app)
    setup_health(app, mongo=mongo, cluster=cluster, metrics=metrics)
    setup_pages(app, environment=settings.environment, dev_tokens=development_tokens(settings))
    return app


def _key_source(settings: Settings) -> KeySource:
    if settings.jwks_url is not None:
        return JwksKeys(settings.jwks_url, algorithms=settings.jwt_algorithms)
    if settings.jwt_public_key is not None:
        return StaticKeys.from_pem(settings.jwt_public_key, settings.jwt_algorithms)
    assert settings.jwt_secret is not None  # load_settings() lets no server start without a key
    return StaticKeys.from_secret(settings.jwt_secret, settings.jwt_algorithms)
