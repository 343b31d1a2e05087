"""Who holds which page of the cache, and which whole pages can be shared. Pure accounting: knows no tensor.

A page that nobody holds keeps what it was computed for until it is needed for something else, oldest first. Only whole
pages are shared, and a whole page is never written again, so nothing is ever copied.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable
from hashlib import blake2b

from inference.engines.local.limits import PAGE_TOKENS
from inference.engines.local.sequence import Sequence


class PagePool:
    """Pages 1 to ``count``; page 0 is nobody's, and fills up tables."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = deque(range(1, count + 1))
        self._holders = [0] * (count + 1)
        self._idle: OrderedDict[int, None] = OrderedDict()  # held by nobody, but shareable; the oldest first
        self._page_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    @property
    def available(self) -> int:
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        return self.count - self.available

    def extend(self, sequence: Sequence, wanted: int) -> bool:
        """Give the sequence pages until it has ``wanted`` of them; all or none."""
        missing = wanted - len(sequence.pages)
        if missing <= 0:
            return True
        if missing > self.available:
            return False
        sequence.pages.extend(self._take() for _ in range(missing))
        return True

    def release(self, sequence: Sequence) -> None:
        """Take back its pages. Its last ones go first when pages run out: its beginning is more often shared."""
        for page in reversed(sequence.pages):
            self._drop(page)
        sequence.pages = []
        sequence.indexed = 0
        sequence.computed = 0

    def match(self, sequence: Sequence) -> list[int]:
        """The pages that hold the beginning of this sequence. Its last token must always be computed."""
        found = []
        for hash in self._hashes(sequence, (len(sequence.tokens) - 1) // PAGE_TOKENS):
            page = self._page_of.get(hash)
            if page is None:
                break
            found.append(page)
        return found

    def adopt(self, sequence: Sequence, pages: Iterable[int]) -> None:
        """Let a sequence without pages begin with these."""
        for page in pages:
            self._idle.pop(page, None)
            self._holders[page] += 1
            sequence.pages.append(page)
        sequence.indexed = len(sequence.pages)
        sequence.computed = len(sequence.pages) * PAGE_TOKENS

    def index(self, sequence: Sequence) -> None:
        """Let others share the pages that are complete by now."""
        complete = min(sequence.computed, len(sequence.tokens)) // PAGE_TOKENS
        if complete <= sequence.indexed:
            return
        hashes = self._hashes(sequence, complete)
        for at in range(sequence.indexed, complete):
            page = sequence.pages[at]
            if hashes[at] not in self._page_of:
                self._page_of[hashes[at]] = page
                self._hash_of[page] = hashes[at]
        sequence.indexed = complete

    def forget(self, sequence: Sequence) -> list[int]:
        """What this sequence wrote is wrong: let nobody share it. Returns the pages that it has for itself."""
        own = [page for page in sequence.pages if self._holders[page] == 1]
        for page in own:
            self._unindex(page)
        return own

    def _take(self) -> int:
        if self._free:
            page = self._free.popleft()
        else:
            page, _ = self._idle.popitem(last=False)
            self._unindex(page)
        self._holders[page] = 1
        return page

    def _drop(self, page: int) -> None:
        self._holders[page] -= 1
        if self._holders[page]:
            return
        if page in self._hash_of:
            self._idle[page] = None
        else:
            self._free.append(page)

    def _unindex(self, page: int) -> None:
        hash = self._hash_of.pop(page, None)
        if hash is not None:
            del self._page_of[hash]

    def _hashes(self, sequence: Sequence, count: int) -> list[bytes]:
        """Each covers its page and all before it, and the scope: equal hashes mean equal keys and values."""
        hashes, tokens = sequence.hashes, sequence.tokens
        if sequence.picture:
            tokens = sequence.picture.keys + tokens[sequence.prompt_tokens :]
        for at in range(len(hashes), count):
            before = hashes[-1] if hashes else sequence.scope
            page = array("q", tokens[at * PAGE_TOKENS : (at + 1) * PAGE_TOKENS])
            hashes.append(blake2b(page.tobytes(), digest_size=16, key=_key(before)).digest())
        return hashes[:count]


def _key(before: bytes) -> bytes:
    return before if len(before) <= 64 else blake2b(before, digest_size=16).digest()
