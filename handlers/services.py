"""What the use cases work with: one frozen bundle, made in the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from auth.tokens import TokenVerifier
from handlers.badges import Badges
from handlers.block_cache import BlockCache
from handlers.connections import Connections
from handlers.delivery import Delivery
from handlers.fanout import Fanout
from handlers.member_cache import MemberCache
from handlers.notifier import Notifier
from handlers.revocations import RevocationWatch
from handlers.room_records import RoomRecords
from handlers.send_rules import SendRules
from handlers.typing_fanout import TypingFanout
from handlers.unread import UnreadCounts
from handlers.watch_rights import WatchRights
from handlers.watching import Watching
from presence.tracker import Tracker
from storage.blocks import BlockStore
from storage.change_feed import ChangeFeed
from storage.changes import ChangeStore
from storage.direct_quotas import DirectQuotas
from storage.members import MemberStore
from storage.messages import MessageLog
from storage.notifications import NotificationStore
from storage.openings import Openings
from storage.places import Places
from storage.reactions import ReactionStore
from storage.reports import ReportStore
from storage.rooms import RoomStore
from storage.threads import ThreadStore
from storage.users import UserStore


@dataclass(frozen=True, slots=True)
class Services:
    """The stores, and the ways to connected devices. `clock` gives UTC in whole milliseconds."""

    clock: Callable[[], datetime]
    rooms: RoomStore
    members: MemberStore
    openings: Openings
    places: Places
    users: UserStore
    log: MessageLog
    fanout: Fanout
    delivery: Delivery
    tokens: TokenVerifier
    revocations: RevocationWatch
    connections: Connections
    blocks: BlockStore
    block_cache: BlockCache
    send_rules: SendRules
    direct_quotas: DirectQuotas
    reports: ReportStore
    notifications: NotificationStore
    notifier: Notifier
    changes: ChangeStore
    feed: ChangeFeed
    reactions: ReactionStore
    threads: ThreadStore
    room_records: RoomRecords
    unread: UnreadCounts
    member_cache: MemberCache
    badges: Badges
    tracker: Tracker
    watching: Watching
    watch_rights: WatchRights
    typing: TypingFanout
