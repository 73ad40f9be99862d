"""Checked by mypy and pyright in strict mode, never run: read chains keep the type of what they read."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from backstay.resilience.read_chain import Answer, LocalTier, ReadChain, RedisTier, StaticTier

chain = ReadChain(
    "catalogue",
    key="product:{product_id}",
    local=LocalTier(fresh=1, max_stale=60),
    redis=RedisTier(store="redis://localhost", max_stale=60),
    static=StaticTier(answer=None),
)


@chain
def product(product_id: int, *, language: str = "en") -> list[str]:
    return []


@chain
async def product_async(product_id: int) -> list[str]:
    return []


@chain.answers
def answer(product_id: int, *, language: str = "en") -> list[str]:
    return []


@chain.answers
async def answer_async(product_id: int) -> list[str]:
    return []


async def check() -> None:
    assert_type(product(7, language="de"), list[str])
    assert_type(await product_async(7), list[str])
    assert_type(answer(7, language="de"), Answer[list[str]])
    assert_type(await answer_async(7), Answer[list[str]])
    assert_type(answer(7).age, float | None)
    product("7")  # type: ignore[arg-type]
    answer(7, lang="de")  # type: ignore[call-arg]
