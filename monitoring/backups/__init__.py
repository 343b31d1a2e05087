"""Copies of all that cannot be made again: database, media, the audit log's checkpoints. No key is in them."""
