"""Files that people send -> text and pictures that a model can use. Plain Python: no Django, no network.

Files come from strangers and their parsers are large, so a process of its own reads each (apart.py): what crashes,
hangs or swells there costs one file, never a worker.
"""
