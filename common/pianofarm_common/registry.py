"""The registry: a folder or an S3 prefix that models are published to and fetched from, once, checked by their digest.

Below it each model has a folder named after its digest. What is fetched lies in the state folder from then on. The object store
of the farm, where producers put models for their own workers, has the same layout (`storage.objects.model_object`).
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pianofarm_common.errors import BadModel, BadSettings, NotFound, UnknownModel
from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelInfo, read_model
from pianofarm_common.settings import Settings
from pianofarm_common.storage import BlobStore, LocalBlobStore

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A model in the registry, not fetched."""

    name: str
    digest: str
    architecture: str
    licence: str


class Registry:
    """Models in a store, by digest."""

    def __init__(self, store: BlobStore, prefix: str, where: str) -> None:
        """Args: where the models are, the prefix of their keys ("" or ending in "/"), and what to call it in messages."""
        self._store, self._prefix, self.where = store, prefix, where

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The registry that PIANOFARM_REGISTRY names; None: none is set.

        Raises:
            BadSettings: it is neither a folder nor s3://bucket/prefix.
        """
        where = settings.registry
        if not where:
            return None
        if where.startswith("s3://"):
            bucket, _, prefix = where.removeprefix("s3://").partition("/")
            if len(bucket) < 3:
                raise BadSettings(f"PIANOFARM_REGISTRY={where!r}: write s3://bucket/prefix")
            from pianofarm_common.storage import S3BlobStore

            store = S3BlobStore.from_settings(settings.model_copy(update={"s3_bucket": bucket}))
            prefix = prefix.strip("/")
            return cls(store, f"{prefix}/" if prefix else "", where)
        if "://" in where:
            raise BadSettings(f"PIANOFARM_REGISTRY={where!r}: must be a folder or s3://bucket/prefix")
        return cls(LocalBlobStore(Path(where)), "", where)

    def entries(self) -> list[Entry]:
        """What there is, by name.

        Raises:
            ServiceUnavailable: the store does not answer.
            BadModel: a configuration is damaged.
        """
        found = []
        for key in self._store.list(self._prefix):
            digest, _, file = key.removeprefix(self._prefix).partition("/")
            if file != CONFIG_FILE or not _DIGEST.fullmatch(digest):
                continue
            try:
                config = json.loads(self._store.get(key))
                entry = Entry(str(config["name"]), digest, str(config["architecture"]), str(config["licence"]))
            except (ValueError, KeyError, TypeError) as error:
                raise BadModel(f"{self.where}: {key}: {type(error).__name__} {error}: publish it again") from None
            found.append(entry)
        return sorted(found, key=lambda entry: (entry.name, entry.digest))

    def fetch(self, name: str, state_dir: Path) -> ModelInfo:
        """Fetch the model of this name or digest (at least 8 hex digits) into the state folder.

        Raises:
            UnknownModel: not here, or several models of this name.
            BadModel: it is damaged.
            ServiceUnavailable: the store does not answer.
        """
        digest = name if _DIGEST.fullmatch(name) else self._digest_of(name)
        return install_model(self._store, lambda file: f"{self._prefix}{digest}/{file}", digest, state_dir)

    def publish(self, model: ModelInfo) -> bool:
        """Put a model here; returns False where it was already.

        Raises:
            ServiceUnavailable: the store does not answer.
        """
        return publish(self._store, lambda file: f"{self._prefix}{model.digest}/{file}", model)

    def _digest_of(self, name: str) -> str:
        entries = self.entries()
        found = [e.digest for e in entries if e.name == name or (len(name) >= 8 and e.digest.startswith(name))]
        if len(found) > 1:
            raise UnknownModel(
                f"{self.where} has {len(found)} models {name!r}: say which by its digest: {', '.join(found)}"
            )
        if not found:
            names = ", ".join(dict.fromkeys(e.name for e in entries)) or "nothing"
            raise UnknownModel(f"no model {name!r} in {self.where}: there is {names}")
        return found[0]


def publish(store: BlobStore, key_of: Callable[[str], str], model: ModelInfo) -> bool:
    """Put a model's files in a store, once.

    Args:
        store: where to.
        key_of: the key of each file's object.
        model: which.

    Returns:
        Whether it was sent now.
    """
    # The configuration goes last: where it is, the rest is.
    if store.exists(key_of(CONFIG_FILE)):
        return False
    for name in (WEIGHTS_FILE, CARD_FILE, CONFIG_FILE):
        path = model.path / name
        if path.is_file():
            store.put(key_of(name), path.read_bytes())
    return True


def install_model(store: BlobStore, key_of: Callable[[str], str], digest: str, state_dir: Path) -> ModelInfo:
    """Download a model beside its place, check its digest, move it into place: never half a model.

    Args:
        store: where from.
        key_of: the key of each file's object.
        digest: of the model.
        state_dir: it goes to `models/<digest>` there.

    Raises:
        UnknownModel: the store has no such model.
        BadModel: what it has is damaged.
        ServiceUnavailable: it does not answer.
    """
    # Not inside `models`: other processes list that folder.
    part = state_dir / f".model-{digest[:16]}.{secrets.token_hex(4)}.part"
    try:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            try:
                store.download(key_of(name), part / name)
            except NotFound:
                raise UnknownModel(f"no model {digest[:12]} in the store: its {name} is not there") from None
        if store.exists(key_of(CARD_FILE)):
            store.download(key_of(CARD_FILE), part / CARD_FILE)
        found = read_model(part)
        if found.digest != digest:
            raise BadModel(
                f"the stored model {digest[:12]} is damaged: its digest is {found.digest[:12]}; store it again"
            )
        place = state_dir / "models" / digest
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.rename(place)
        except OSError:
            # Another process of this host was faster.
            if not (place / CONFIG_FILE).is_file():
                raise
        return read_model(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
