"""Where bytes live: the BlobStore protocol, its two adapters, and the keys of every object. Vendor errors end here."""

from pianofarm_common.storage.local import LocalBlobStore
from pianofarm_common.storage.objects import audio_object, dry_object, midi_object, model_object, sidecar_object
from pianofarm_common.storage.s3 import S3BlobStore
from pianofarm_common.storage.store import BlobStore

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
