"""Finish, without any service running, what a shop left when it was killed as a whole.

SHOP_DATA=build/demo/protected backstay txn recover --app examples.shop.protected.recovery:manager
"""

from __future__ import annotations

import httpx

from backstay.txn import AsyncTransactionManager
from examples.shop.places import Places
from examples.shop.protected import payments, stock
from examples.shop.protected.recording import record_order

# The journal says `http://stock/reservations`; here that is the stock application in this very process.
manager = AsyncTransactionManager.connect(
    Places.load().journal,
    actions=[record_order],
    hosts={"stock": httpx.ASGITransport(stock.app), "payments": httpx.ASGITransport(payments.app)},
)
