"""An application whose answer a switch changes: `uvicorn integration.switch_service.example_shop:app`."""

from __future__ import annotations

import os

from fastapi import FastAPI

from backstay.resilience.switches import Switches

switches = Switches.connect(os.environ["SWITCHES"], defaults={"recommendations": True})
app = FastAPI()


@app.get("/")
async def front() -> dict[str, list[str]]:
    return {"recommended": ["tea"] if switches.enabled("recommendations") else []}
