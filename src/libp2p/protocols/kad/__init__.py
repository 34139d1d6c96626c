"""The Kademlia DHT: who is where, who has what, and small values, in a network without a centre."""

from .config import AMINO, AMINO_LAN, KadConfig, Mode, ServerConfig
from .crawl import CrawlConfig, Crawled, crawl
from .dual import LAN, WAN, DualDht
from .full_table import FullTable, FullTableConfig
from .lookup import LookupConfig
from .memory_store import MemoryRecordStore
from .query import LookupProgress, Progress
from .request_time import RequestTimeConfig
from .scope import Scope
from .service import KadDht
from .sqlite_store import SqliteRecordStore
from .store import ProviderRecord, RecordStore, StoreConfig, StoredValue
from .table import RoutingTable, TableConfig
from .validators import Validator

__all__ = [
    "AMINO",
    "AMINO_LAN",
    "LAN",
    "WAN",
    "CrawlConfig",
    "Crawled",
    "DualDht",
    "FullTable",
    "FullTableConfig",
    "KadConfig",
    "KadDht",
    "LookupConfig",
    "LookupProgress",
    "MemoryRecordStore",
    "Mode",
    "Progress",
    "ProviderRecord",
    "RecordStore",
    "RequestTimeConfig",
    "RoutingTable",
    "Scope",
    "ServerConfig",
    "SqliteRecordStore",
    "StoreConfig",
    "StoredValue",
    "TableConfig",
    "Validator",
    "crawl",
]
