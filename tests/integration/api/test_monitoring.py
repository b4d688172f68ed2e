"""Health, version and metrics."""

import httpx


async def test_health_names_each_component(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "components": {"database": "ok"}}
