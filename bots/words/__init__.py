"""Lists of words and patterns: what bots do not take, do not say, or say only masked. docs/content.md tells the rules.

``folding``, ``automaton``, ``rules`` and ``scanning`` are pure; ``known`` reads the lists of a bot and remembers them.
"""
