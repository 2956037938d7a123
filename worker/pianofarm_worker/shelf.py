"""The shelf of loaded models of one process: found by digest in the package, the state folder, the object store, the registry."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pianofarm_common.errors import UnknownModel
from pianofarm_common.logs import get_logger
from pianofarm_common.models import ModelInfo, find_model
from pianofarm_common.precision import Precision, engine_for, precision_of
from pianofarm_common.registry import Registry, install_model
from pianofarm_common.storage import BlobStore, model_object
from pianofarm_worker.synth.piano import Piano

#: Models kept loaded; one takes some 100 MB.
MAX_LOADED = 2

log = get_logger(__name__)


class Shelf:
    """Pianos by digest, loaded at first use and kept, the least used dropped first."""

    def __init__(
        self, store: BlobStore, state_dir: Path, load: Callable[..., Piano], registry: Registry | None = None
    ) -> None:
        """Args: `load` makes a piano of a model; `pianofarm_worker.synth.piano.load` in all but tests.

        It is called with the model, and with `precision` where that is not float32. What neither this host nor the store has is
        looked for in the registry, where there is one.
        """
        self._registry = registry
        self._store = store
        self._state_dir = state_dir
        self._load = load
        self._pianos: OrderedDict[tuple[str, Precision], Piano] = OrderedDict()
        self._lock = threading.Lock()

    def piano(self, digest: str, precision: Precision = "float32") -> Piano:
        """The piano of this digest, its network computed in this precision.

        Raises:
            UnknownModel: not at hand, and not in the object store.
            BadModel: the folder or the stored model is damaged.
            ServiceUnavailable: the object store does not answer.
        """
        shelved = digest, precision
        with self._lock:
            if shelved not in self._pianos:
                info = self._find(digest)
                log.info("loading model", model=info.name, digest=digest[:12], precision=precision)
                asked = {} if precision == "float32" else {"precision": precision}
                self._pianos[shelved] = self._load(info, **asked)
                while len(self._pianos) > MAX_LOADED:
                    self._pianos.popitem(last=False)
            self._pianos.move_to_end(shelved)
            return self._pianos[shelved]

    def places(self, digest: str, precision: Precision = "float32") -> int:
        """How many pieces this piano renders at once; 1 where it is not loaded. Loads nothing."""
        # Without the lock: it is held while a model is loaded, and the answer may be late.
        found = self._pianos.get((digest, precision))
        return found.batch_size if found else 1

    @property
    def most_places(self) -> int:
        """The most pieces that any loaded piano renders at once."""
        return max((piano.batch_size for piano in list(self._pianos.values())), default=1)

    def warm(self, name: str, precision: Precision = "float32") -> None:
        """Load a model before it is asked for; raises as `piano` does."""
        try:
            info = find_model(name, self._state_dir)
        except UnknownModel:
            if self._registry is None:
                raise
            info = self._registry.fetch(name, self._state_dir)
        self.piano(info.digest, precision_of(engine_for(info.architecture, precision)))

    def _find(self, digest: str) -> ModelInfo:
        """The model at hand, else from the store of the farm, else from the registry."""
        with suppress(UnknownModel):
            return find_model(digest, self._state_dir)
        with suppress(UnknownModel):
            return install_model(self._store, partial(model_object, digest), digest, self._state_dir)
        if self._registry is not None:
            with suppress(UnknownModel):
                return self._registry.fetch(digest, self._state_dir)
        raise UnknownModel(
            f"model {digest[:12]} is neither on this worker nor in the store{' nor in the registry' if self._registry else ''}: "
            "import it where you submit ('pianofarm models import DIR')"
        )
