"""What a worker does: claim, fetch, render, check, store, commit."""
