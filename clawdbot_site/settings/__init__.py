"""The settings of every process: base.py, and the few names that development, test and production change."""
