"""The keys of every object that the farm stores. No bytes here."""

from __future__ import annotations


def midi_object(performance_sha256: str) -> str:
    """Object key of a canonical performance."""
    return f"midi/{performance_sha256}.mid"


def audio_object(render_key: str, extension: str) -> str:
    """Object key of a render's audio; the two digits spread keys over a store's partitions."""
    return f"renders/{render_key[:2]}/{render_key}/audio.{extension}"


def dry_object(render_key: str, extension: str) -> str:
    """Object key of a render's sound before the room."""
    return f"renders/{render_key[:2]}/{render_key}/dry.{extension}"


def sidecar_object(render_key: str) -> str:
    """Object key of a render's JSON sidecar."""
    return f"renders/{render_key[:2]}/{render_key}/result.json"


def model_object(digest: str, file_name: str) -> str:
    """Object key of one file of a model."""
    return f"models/{digest}/{file_name}"
