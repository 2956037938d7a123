"""The local farm: Redis, S3 storage, workers and Flower as supervised processes of this machine. No rendering here."""
