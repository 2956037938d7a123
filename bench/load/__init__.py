"""Load on the whole farm but its synthesizer: real Redis, S3 and workers in processes of their own, and a stub that makes nothing.

`python -m bench.load` measures and saves; `docs/load.md` shows it.
"""

#: The broker of the stock worker.
BROKER_VARIABLE = "PIANOFARM_LOAD_BROKER"

#: What the stub worker does with bytes, and when: "" none are made; "nowhere", "s3"; with " at once": by the thread that renders.
STORE_VARIABLE = "PIANOFARM_LOAD_STORE"

#: How many renders the stub worker makes at once, as an accelerator does; 1 where it is not said.
PLACES_VARIABLE = "PIANOFARM_LOAD_PLACES"
