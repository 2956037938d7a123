"""A discrete-event simulation of the farm: queue, workers, autoscaler, cold starts, preemptions, failures. Runs no service.

`python -m bench.simulate` prints the tables and draws the plots; `python -m bench.simulate.validate` holds it against a real farm.
"""
