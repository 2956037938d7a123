"""Every error of the project, by the only question a worker asks: would another try help?

    PianofarmError
    ├── Transient                 another try may help: network, throttling, a lost lease
    │   ├── ServiceUnavailable    Redis or the object store does not answer
    │   ├── LeaseLost             somebody else holds the render now; stop working on it
    │   └── DiskFull              no room to write; nothing was left half-written
    └── Permanent                 no other try will ever help: the input is wrong
        ├── BadMidi               not a MIDI file we can read; names the byte or the event
        │   └── LimitExceeded     readable, but larger than the settings allow
        ├── BadOption             an option out of range, or one that this model does not have
        ├── UnknownModel          no model of that name, folder or digest
        ├── BadModel              a model folder that is damaged or of an unknown architecture
        ├── BadSettings           the environment or a settings file holds an unusable value
        ├── NotFound              no such job, batch, render or object
        ├── QualityGateFailed     the audio made is not fit to ship (silent, clipped, not finite, ...)
        └── Cancelled             nobody waits for this render any more

A message gives the value received and the cure, in one line. Vendor errors (redis, botocore, soundfile) are translated in
the adapter that talks to the vendor and nowhere else.
"""

from __future__ import annotations

import errno


class PianofarmError(Exception):
    """The root of every error this project raises on purpose."""


class Transient(PianofarmError):
    """Another try may help."""


class ServiceUnavailable(Transient):
    """Redis or the object store could not be reached or refused to serve."""


class LeaseLost(Transient):
    """The fencing token is no longer the current one: another worker has the render."""


class DiskFull(Transient):
    """No room left on the device that was written to."""


#: `OSError.errno` of those that are a `DiskFull`: the disk, the quota, the limit on the size of a file.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Permanent(PianofarmError):
    """No other try will help: the request itself is wrong."""


class BadMidi(Permanent):
    """The bytes are not a Standard MIDI File that can be rendered."""


class LimitExceeded(BadMidi):
    """The MIDI file is larger, longer or denser than the settings allow."""


class BadOption(Permanent):
    """A render option is out of range or not supported by the model."""


class UnknownModel(Permanent):
    """No model of this name, folder or digest can be found."""


class BadModel(Permanent):
    """A model folder is damaged, incomplete or of an unknown architecture."""


class BadSettings(Permanent):
    """A setting holds a value that cannot be used."""


class NotFound(Permanent):
    """No such job, batch, render or object."""


class QualityGateFailed(Permanent):
    """The audio that was made must not be shipped."""


class Cancelled(Permanent):
    """The render was cancelled: nobody waits for it any more."""
