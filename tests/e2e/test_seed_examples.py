"""The Python examples of the first README (the contract of this service), call for call and in their order.

What had to differ: the address, and where an example assumes something that it does not make itself, a token or an
account, that is made here first. The third one signs in as `admin` with the password `password`, which is refused at
registration as one of the most common; it has another one here.
"""

from typing import Any

import httpx
import pytest

from tests.e2e.conftest import RunningServer

USER = {
    "username": "johndoe",
    "email": "john@example.com",
    "password": "SecurePass123",
    "full_name": "John Doe",
}
JOB = {
    "name": "ETL 資料處理任務",
    "description": "每日資料同步處理",
    "config": {
        "source": "postgresql://user:pass@host:5432/db",
        "target": "s3://bucket/path/",
        "schedule": "0 9 * * *",
        "batch_size": 1000,
        "retry_count": 3,
    },
    "status": "active",
}
SYNC_CONFIG = {
    "source": {"type": "postgresql", "host": "localhost", "database": "source_db"},
    "target": {"type": "s3", "bucket": "data-lake", "prefix": "processed/"},
    "schedule": "0 2 * * *",
    "retries": 3,
}


class PyAPIClient:
    """The client of the first two examples."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.access_token: str | None = None
        self.refresh_token: str | None = None

    def _get_headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.access_token:
            headers["Authorization"] = f"Bearer {self.access_token}"
        return headers


async def register_and_login(base_url: str) -> tuple[PyAPIClient, dict[str, Any]]:
    """The first example."""
    async with httpx.AsyncClient() as client:
        api = PyAPIClient(base_url)
        response = await client.post(f"{base_url}/api/auth/register", json=USER, headers=api._get_headers())
        assert response.status_code == 201
        user = response.json()
        login = {"username": USER["username"], "password": USER["password"]}
        response = await client.post(f"{base_url}/api/auth/login", json=login, headers=api._get_headers())
        assert response.status_code == 200
        tokens = response.json()
        api.access_token = tokens["access_token"]
        api.refresh_token = tokens["refresh_token"]
        return api, user


@pytest.fixture(scope="module")
async def registered(shared_server: RunningServer) -> tuple[PyAPIClient, dict[str, Any]]:
    return await register_and_login(shared_server.url)


async def test_register_and_login(registered: tuple[PyAPIClient, dict[str, Any]]) -> None:
    api, user = registered
    assert (user["username"], bool(api.access_token), bool(api.refresh_token)) == ("johndoe", True, True)


async def test_data_operations(registered: tuple[PyAPIClient, dict[str, Any]]) -> None:
    api, _ = registered
    headers = api._get_headers()
    async with httpx.AsyncClient() as client:
        created = await client.post(f"{api.base_url}/api/data/", json=JOB, headers=headers)
        data_id = created.json()["id"]
        listed = await client.get(f"{api.base_url}/api/data/?skip=0&limit=10&status=active", headers=headers)
        detail = await client.get(f"{api.base_url}/api/data/{data_id}", headers=headers)
        update = {"description": "更新後的描述", "status": "inactive"}
        updated = await client.put(f"{api.base_url}/api/data/{data_id}", json=update, headers=headers)
        deleted = await client.delete(f"{api.base_url}/api/data/{data_id}", headers=headers)

    answers = [created, listed, detail, updated, deleted]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200]
    assert [(item["name"], item["id"]) for item in listed.json()["data"]] == [(JOB["name"], data_id)]
    assert listed.json()["total"] == 1
    assert detail.json()["name"] == JOB["name"]
    assert updated.json() | update == updated.json() | {"name": JOB["name"]}
    assert deleted.json()["message"]


class PyAPIManager(PyAPIClient):
    """The client of the third example."""

    async def login(self, username: str, password: str) -> bool:
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/api/auth/login", json={"username": username, "password": password}
            )
            if response.status_code == 200:
                tokens = response.json()
                self.access_token = tokens["access_token"]
                self.refresh_token = tokens["refresh_token"]
                return True
            return False

    async def create_etl_job(self, name: str, config: dict[str, Any]) -> dict[str, Any] | None:
        async with httpx.AsyncClient() as client:
            payload = {"name": name, "description": f"ETL 作業: {name}", "config": config, "status": "active"}
            response = await client.post(f"{self.base_url}/api/data/", json=payload, headers=self._get_headers())
            return response.json() if response.status_code == 201 else None

    async def get_jobs(self, status: str = "active") -> list[dict[str, Any]]:
        async with httpx.AsyncClient() as client:
            response = await client.get(f"{self.base_url}/api/data/?status={status}", headers=self._get_headers())
            jobs: list[dict[str, Any]] = response.json()["data"] if response.status_code == 200 else []
            return jobs


async def test_the_manager(shared_server: RunningServer) -> None:
    admin = {"username": "admin", "email": "admin@example.com", "password": "一組不常見的密碼 2026"}
    httpx.post(f"{shared_server.url}/api/auth/register", json=admin).raise_for_status()
    api = PyAPIManager(shared_server.url)

    assert await api.login(admin["username"], admin["password"])
    job = await api.create_etl_job("daily_sync", SYNC_CONFIG)
    jobs = await api.get_jobs("active")

    assert job is not None
    assert job["config"] == SYNC_CONFIG
    assert (job["name"], job["status"], job["id"]) in [(found["name"], found["status"], found["id"]) for found in jobs]


async def test_the_manager_with_a_wrong_password(shared_server: RunningServer) -> None:
    assert not await PyAPIManager(shared_server.url).login("admin", "password")
