"""A shop."""

import os

LIMIT = 3


# Runs once a day.
@retry(5)
@traced
def sweep() -> None:
    os.stat(".")


class Cart:
    """What is bought."""

    MAX_ITEMS = 10

    # In cents.
    @property
    def total(self) -> int:
        def one(item):
            return item.price

        return sum(map(one, self.items))

    class Item:
        async def load(self):
            return 1
