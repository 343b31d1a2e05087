"""Benchmarks of the message path: `make bench`, or `python -m bench.path`. Nothing of the product imports this."""
