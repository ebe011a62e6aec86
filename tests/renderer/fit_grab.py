"""A process that leases all it can get; imports nothing heavy, so that it starts at once."""

import time
from pathlib import Path
from typing import Any

from renderer.fitter.owners import owner_name
from renderer.fitter.store import Store


def grab(path: str, take: Any) -> None:
    """Lease jobs until there are none, and tell which."""
    with Store(Path(path)) as store:
        mine = []
        while (one := store.lease(owner_name(), time.time(), 600)) is not None:
            mine.append(one.id)
        take.put(mine)
