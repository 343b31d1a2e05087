"""What happened in each minute, of all processes: read from the metrics they keep anyway, never counted on the way.

``keeping`` writes (a thread of every process), ``history`` reads. Keys are ``name|label|…``, few and bounded.
"""
