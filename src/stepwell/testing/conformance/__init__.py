"""Does a store keep its promises? Make a subclass of `StoreSuite` and let pytest, or unittest, run it.

```python
class TestMyStore(StoreSuite):
    def make_store(self) -> Store:
        return MyStore(self.folder / "place")
```

Each test is given an empty `folder`, and calls `make_store` as often as it wants clients of one and the same place.
"""

from stepwell.testing.conformance.care import CareTests
from stepwell.testing.conformance.driving import DrivingTests
from stepwell.testing.conformance.index import IndexTests
from stepwell.testing.conformance.journals import JournalTests
from stepwell.testing.conformance.mailboxes import MailboxTests

__all__ = ["StoreSuite"]


class StoreSuite(JournalTests, MailboxTests, DrivingTests, IndexTests, CareTests):
    """Every behaviour that `stepwell.stores.protocol.Store` promises, one test each."""
