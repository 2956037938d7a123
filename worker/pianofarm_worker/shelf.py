"""The shelf of loaded models of one process: found by digest in the package, in the state folder or in the object store."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from pianofarm_common.errors import BadModel, NotFound, UnknownModel
from pianofarm_common.logs import get_logger
from pianofarm_common.models import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, ModelInfo, find_model, read_model
from pianofarm_common.precision import Precision, engine_for, precision_of
from pianofarm_common.storage import BlobStore, model_object
from pianofarm_worker.synth.piano import Piano

#: Models kept loaded; one takes some 100 MB.
MAX_LOADED = 2

log = get_logger(__name__)


class Shelf:
    """Pianos by digest, loaded at first use and kept, the least used dropped first."""

    def __init__(self, store: BlobStore, state_dir: Path, load: Callable[..., Piano]) -> None:
        """Args: `load` makes a piano of a model; `pianofarm_worker.synth.piano.load` in all but tests.

        It is called with the model, and with `precision` where that is not float32.
        """
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
        info = find_model(name, self._state_dir)
        self.piano(info.digest, precision_of(engine_for(info.architecture, precision)))

    def _find(self, digest: str) -> ModelInfo:
        try:
            return find_model(digest, self._state_dir)
        except UnknownModel:
            return self._fetch(digest)

    def _fetch(self, digest: str) -> ModelInfo:
        """Download a model beside its place, check its digest, move it into place: never half a model."""
        # Not inside `models`: other workers list that folder.
        part = self._state_dir / f".model-{digest[:16]}.{secrets.token_hex(4)}.part"
        try:
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                try:
                    self._store.download(model_object(digest, name), part / name)
                except NotFound:
                    raise UnknownModel(
                        f"model {digest[:12]} is neither on this worker nor in the store: "
                        "import it where you submit ('pianofarm models import DIR')"
                    ) from None
            if self._store.exists(model_object(digest, CARD_FILE)):
                self._store.download(model_object(digest, CARD_FILE), part / CARD_FILE)
            found = read_model(part)
            if found.digest != digest:
                raise BadModel(
                    f"the stored model {digest[:12]} is damaged: its digest is {found.digest[:12]}; import it again"
                )
            place = self._state_dir / "models" / digest
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.rename(place)
            except OSError:
                # Another worker of this host was faster.
                if not (place / CONFIG_FILE).is_file():
                    raise
            return read_model(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
