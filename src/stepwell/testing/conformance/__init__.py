"""Does a store keep its promises? Make a subclass of `StoreSuite` and let pytest, or unittest, run it.

```python
class TestMyStore(StoreSuite):
    def make_store(self) -> Store:
        return MyStore(self.folder / "place")
```

Each test is given an empty `folder`, and calls `make_store` as often as it wants clients of one and the same place.
"""

from stepwell.testing.conformance.care import CareTests
from stepwell.testing.conformance.creating import CreatingTests
from stepwell.testing.conformance.definitions import CachedTests, DefinitionTests
from stepwell.testing.conformance.driving import DrivingTests
from stepwell.testing.conformance.events import EventTests
from stepwell.testing.conformance.index import IndexTests
from stepwell.testing.conformance.journals import JournalTests
from stepwell.testing.conformance.mailboxes import MailboxTests
from stepwell.testing.conformance.queues import QueueTests
from stepwell.testing.conformance.shelves import ShelfTests
from stepwell.testing.conformance.transact import TransactTests
from stepwell.testing.conformance.triggers import TriggerTests
from stepwell.testing.conformance.waits import WaitTests

__all__ = ["StoreSuite"]


class StoreSuite(
    JournalTests,
    CreatingTests,
    MailboxTests,
    TransactTests,
    WaitTests,
    EventTests,
    QueueTests,
    TriggerTests,
    DefinitionTests,
    CachedTests,
    ShelfTests,
    DrivingTests,
    IndexTests,
    CareTests,
):
    """Every behaviour that `stepwell.stores.protocol.Store` promises, one test each."""
