"""The composition root: everything is made here, and closed in the opposite order."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from auth.jwks import JwksKeys
from auth.keys import KeySource, StaticKeys
from auth.tokens import TokenVerifier
from handlers.badges import Badges
from handlers.block_cache import BlockCache
from handlers.connections import Connections
from handlers.delivery import Delivery
from handlers.fanout import Fanout
from handlers.healing import Healing
from handlers.member_cache import MemberCache
from handlers.memberships import tell_moved
from handlers.moderation import Moderation
from handlers.notifier import Notifier
from handlers.receipts import publish_receipts
from handlers.resumption import Resumption
from handlers.retelling import Retelling
from handlers.revocations import RevocationWatch
from handlers.room_records import RoomRecords
from handlers.room_sizes import RoomSizes
from handlers.send_rules import SendRules
from handlers.services import Services
from handlers.unread import UnreadCounts
from protocol.events import NotificationSent
from realtime.cluster import Cluster
from realtime.create import create_server
from realtime.doubt import Doubt
from realtime.emitters import COMMAND_SECONDS, Emitters
from realtime.foreign import ForeignReader
from realtime.offsets import Stamps
from realtime.recovery import Recovery
from realtime.redis_servers import redis_source
from realtime.server import Server
from server.bus_metrics import BusCollector
from server.catalogue import event_names
from server.garbage import Garbage
from server.gateway import Gateway
from server.http.docs import setup_docs
from server.http.health import setup_health
from server.http.pages import setup_pages
from server.loop_lag import LoopLag
from server.moderation import Webhook, load_hook
from server.origins import origin_check
from server.presence import make_presence
from server.settings import Settings
from server.signing import development_tokens
from server.telemetry import Metrics
from storage.blocks import BlockStore
from storage.change_feed import ChangeFeed
from storage.changes import ChangeStore
from storage.direct_quotas import DirectQuotas
from storage.members import MemberStore
from storage.messages import MessageLog
from storage.migrations import migrate
from storage.mongo import Mongo, is_outage
from storage.notifications import NotificationStore
from storage.openings import Openings
from storage.places import Places
from storage.reactions import ReactionStore
from storage.reads import Reads
from storage.reports import ReportStore
from storage.revocations import RevocationStore
from storage.room_states import RoomStates
from storage.rooms import RoomStore
from storage.slow_mode import SlowMode
from storage.threads import ThreadStore
from storage.users import UserStore

SOCKETS: Final = web.AppKey("sockets", Server)
"""The Socket.IO server of an application, which also knows the best way to listen."""

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
    reads = Reads(mongo)
    openings, places = Openings(reads, members.receipts), Places(reads, members.receipts)
    messages = MessageLog(mongo, utc_now, metrics.commit_batch.observe)
    reactions, threads, feed = ReactionStore(mongo), ThreadStore(mongo), ChangeFeed(mongo)
    changes = ChangeStore(mongo, reactions, threads)
    redis = redis_source(redis_url)
    cluster = Cluster(redis, settings.redis_prefix, uuid.uuid4().hex[:12])
    metrics.registry.register(BusCollector(cluster))
    server = create_server(
        ping_interval_ms=settings.ping_interval_ms,
        ping_timeout_ms=settings.ping_timeout_ms,
        limits=settings.limits(),
        origin_allowed=origin_check(settings.cors_origins, settings.environment),
        on_limit=metrics.limit_hit,
    )
    doubt = Doubt(server.manager, cluster)
    stamps = Stamps(cluster.node_id, doubt.stamp_ms)
    server.recovery = recovery = Recovery(
        server.manager,
        cluster,
        redis,
        settings.redis_prefix,
        ping_seconds=(settings.ping_interval_ms + settings.ping_timeout_ms) / 1000,
        stores_rooms=False,
        ended=server.ended,
        on_outcome=lambda outcome: metrics.recoveries.labels(outcome).inc(),
    )
    metrics.dropped_packets.set_function(lambda: server.eio.shared.dropped)
    delivery = Delivery(server.manager, cluster, messages, stamps)
    fanout = Fanout(server.manager, cluster, delivery, messages, stamps, doubt)
    room_states = RoomStates(mongo)
    unread = UnreadCounts(delivery, room_states)
    badges = Badges(members, unread, fanout, utc_now)
    retelling = Retelling(delivery, feed, threads, time.monotonic)
    healing = Healing(cluster, delivery, fanout, members, retelling, doubt, is_outage)
    keys = _key_source(settings)
    verifier = TokenVerifier(keys, now=time.time, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    connections = Connections(server.manager, cluster, partial(server.close_socket, reconnect=False), utc_now)
    revoked = RevocationStore(mongo, utc_now)
    revocations = RevocationWatch(revoked, connections)
    blocks, notifications = BlockStore(mongo, utc_now), NotificationStore(mongo)
    block_cache = BlockCache(blocks, fanout, time.monotonic)
    webhook = Webhook(settings.moderation_webhook) if settings.moderation_webhook is not None else None
    moderation = _moderation(settings, webhook, metrics)
    slow_mode = SlowMode(mongo, utc_now)
    send_rules = SendRules(rooms, messages, slow_mode, block_cache, moderation, fanout, time.monotonic)
    notifier = Notifier(
        notifications, rooms, members, users, blocks, fanout, badges, messages, utc_now, metrics.mentions_dropped.inc
    )
    presence = make_presence(
        redis=redis,
        redis_prefix=settings.redis_prefix,
        open_to_all=settings.presence_open == "on",
        mongo=mongo,
        manager=server.manager,
        cluster=cluster,
        fanout=fanout,
        rooms=rooms,
        members=members,
        blocks=blocks,
    )
    delivery.on_delivered.append(presence.typing.delivered)
    services = Services(
        utc_now,
        rooms,
        members,
        openings,
        places,
        users,
        messages,
        fanout,
        delivery,
        verifier,
        revocations,
        connections,
        blocks=blocks,
        block_cache=block_cache,
        send_rules=send_rules,
        direct_quotas=DirectQuotas(mongo, utc_now),
        reports=ReportStore(mongo, utc_now),
        notifications=notifications,
        notifier=notifier,
        changes=changes,
        feed=feed,
        reactions=reactions,
        threads=threads,
        room_records=RoomRecords(rooms, delivery, fanout),
        unread=unread,
        member_cache=MemberCache(members, fanout, time.monotonic),
        badges=badges,
        tracker=presence.tracker,
        watching=presence.watching,
        watch_rights=presence.watch_rights,
        typing=presence.typing,
        resumption=Resumption(recovery, delivery, fanout, messages),
    )
    healing.on_moved = partial(tell_moved, services=services)
    members.receipts.on_written = partial(publish_receipts, sizes=RoomSizes(members, time.monotonic), services=services)
    server.register_namespace(Gateway(services, metrics, {"maxPayloadBytes": settings.max_payload_bytes}, recovery))

    emitters = Emitters(
        redis.client(timeout_seconds=COMMAND_SECONDS),
        server.manager,
        ForeignReader(settings.limits(), event_names() - {NotificationSent.wire_name}, fanout.keeps),
        partial(server.close_socket, reconnect=False),
        lambda source, outcome: metrics.foreign_events.labels(source, outcome).inc(),
    )
    metrics.emitters_connected.set_function(lambda: emitters.connected)

    async def stores(app: web.Application) -> AsyncIterator[None]:
        try:
            await mongo.check()
            if applied := await migrate(mongo, now=utc_now):
                log.info("database migrated", migrations=applied)
            yield
        finally:
            await asyncio.gather(messages.close(), changes.close(), room_states.close())
            read_only = (reads, reactions, threads, feed)
            read_and_written = (members, rooms, users, revoked, blocks, notifications)
            await asyncio.gather(*(store.close() for store in (*read_only, *read_and_written)))
            await mongo.close()

    async def bus(app: web.Application) -> AsyncIterator[None]:
        await cluster.start()
        recovery.start()
        healing.start()
        presence.start()
        await cluster.settle()
        yield
        await presence.close()
        # While the bus can still tell what these write.
        await members.receipts.close()
        await badges.close()
        await notifier.close()
        await healing.close()
        await asyncio.gather(delivery.close(), fanout.close(), recovery.close())
        await cluster.stop()
        await redis.close()

    async def sessions(app: web.Application) -> AsyncIterator[None]:
        await revocations.start()
        connections.start()
        yield
        await asyncio.gather(revocations.close(), connections.stop())

    async def foreign_emitters(app: web.Application) -> AsyncIterator[None]:
        emitters.start()
        yield
        await emitters.stop()

    async def loop(app: web.Application) -> AsyncIterator[None]:
        lag = LoopLag(metrics.loop_lag.observe)
        garbage = Garbage(lambda: connections.ended, lambda: len(server.manager.sessions))
        lag.start()
        garbage.start()
        yield
        garbage.stop()
        lag.stop()

    async def moderation_hook(app: web.Application) -> AsyncIterator[None]:
        if webhook is not None:
            await webhook.start()
        yield
        if webhook is not None:
            await webhook.stop()

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
    app.cleanup_ctx.extend([stores, token_keys, moderation_hook, sessions, bus, foreign_emitters, loop])
    app.on_shutdown.append(drain)
    server.attach_to(app)
    app[SOCKETS] = server
    setup_health(app, mongo=mongo, cluster=cluster, metrics=metrics)
    setup_pages(app, environment=settings.environment, dev_tokens=development_tokens(settings))
    setup_docs(app, public=settings.environment == "development" or settings.public_docs == "on")
    return app


def _moderation(settings: Settings, webhook: Webhook | None, metrics: Metrics) -> Moderation | None:
    hook = load_hook(settings.moderation_hook) if settings.moderation_hook is not None else webhook
    if hook is None:
        return None
    return Moderation(
        hook,
        fail_open=settings.moderation_fail_open == "on",
        on_outcome=lambda outcome: metrics.moderation.labels(outcome).inc(),
    )


def _key_source(settings: Settings) -> KeySource:
    if settings.jwks_url is not None:
        return JwksKeys(settings.jwks_url, algorithms=settings.jwt_algorithms)
    if settings.jwt_public_key is not None:
        return StaticKeys.from_pem(settings.jwt_public_key, settings.jwt_algorithms)
    assert settings.jwt_secret is not None  # load_settings() lets no server start without a key
    return StaticKeys.from_secret(settings.jwt_secret, settings.jwt_algorithms)
