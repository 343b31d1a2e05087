"""Alerts without Prometheus: a fixed list of rules, looked at every fifteen seconds by one process, and told.

``rules`` is the list, ``ground`` its part that needs no other app (the apps above register theirs), ``evaluating``
opens and closes, ``notices`` tells, ``outage`` does both while the database is away, ``running`` is the thread.
"""
