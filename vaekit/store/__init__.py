"""What is kept: members and their keys, the store of runs, checkpoints, and the evidence in results/. See README.md."""

from vaekit.store import bundles, checkpoints, files, maintenance, results
from vaekit.store.bundles import Codes, ImageGrid
from vaekit.store.files import StoreError, UnreadableError
from vaekit.store.member import SHORT, Member, describe, key_of, member_of, unique
from vaekit.store.results import Tables, load_decoder
from vaekit.store.runs import CHECKOUT, Run, Store, default_store, load

__all__ = [
    "CHECKOUT",
    "SHORT",
    "Codes",
    "ImageGrid",
    "Member",
    "Run",
    "Store",
    "StoreError",
    "Tables",
    "UnreadableError",
    "bundles",
    "checkpoints",
    "default_store",
    "describe",
    "files",
    "key_of",
    "load",
    "load_decoder",
    "maintenance",
    "member_of",
    "results",
    "unique",
]
