"""Benchmarks of the local engine, apart from Django: it can be measured alone on a machine that has a GPU."""
