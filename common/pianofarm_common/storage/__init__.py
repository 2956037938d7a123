"""Where bytes live: the BlobStore protocol, its two adapters, and the keys of every object. Vendor errors end here."""

from typing import TYPE_CHECKING, Any

from pianofarm_common.storage.local import LocalBlobStore
from pianofarm_common.storage.objects import audio_object, dry_object, midi_object, model_object, sidecar_object
from pianofarm_common.storage.store import BlobStore

if TYPE_CHECKING:
    from pianofarm_common.storage.s3 import S3BlobStore

__all__ = [
    "BlobStore",
    "LocalBlobStore",
    "S3BlobStore",
    "audio_object",
    "dry_object",
    "midi_object",
    "model_object",
    "sidecar_object",
]


def __getattr__(name: str) -> Any:
    """Import the S3 adapter at its first use: Amazon's library is a third of what `pianofarm render` would import, for nothing."""
    if name != "S3BlobStore":
        raise AttributeError(f"module 'pianofarm_common.storage' has no attribute {name!r}")
    from pianofarm_common.storage.s3 import S3BlobStore

    return S3BlobStore
