"""The farm's services as a producer holds them: one ledger, one store, one queue, made from the settings at first use."""

from __future__ import annotations

from functools import cached_property

from celery import Celery

from pianofarm_common.ledger import Ledger
from pianofarm_common.ledger.switches import Switches
from pianofarm_common.queue import make_app
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore


class Services:
    """What clients talk to. Nothing connects before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def ledger(self) -> Ledger:
        """Status of jobs and renders, in Redis."""
        return Ledger.from_settings(self.settings)

    @cached_property
    def switches(self) -> Switches:
        """What is paused or drained, in Redis."""
        return Switches.from_settings(self.settings)

    @cached_property
    def store(self) -> S3BlobStore:
        """MIDI and audio, in the object store."""
        return S3BlobStore.from_settings(self.settings)

    @cached_property
    def queue(self) -> Celery:
        """The broker; only published to here."""
        return make_app(self.settings)

    def close(self) -> None:
        """Close what was opened."""
        if "ledger" in self.__dict__:
            self.ledger.close()
        if "switches" in self.__dict__:
            self.switches.close()
        if "store" in self.__dict__:
            self.store.close()
        if "queue" in self.__dict__:
            self.queue.close()
