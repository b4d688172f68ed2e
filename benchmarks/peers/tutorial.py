"""The tutorial: FastAPI with an ORM, a `response_model`, the user read for each request and python-jose.

What the pages of FastAPI about databases and about OAuth 2 with JWT teach, with SQLAlchemy's async session in the place
of SQLModel's blocking one. No log, no metrics, no revisions by the service (the triggers of the table write them).
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.security import OAuth2PasswordBearer
from jose import JWTError, jwt
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from pyapi.db.auth_models import RefreshToken, User
from pyapi.db.models import DataRecord

_KEY = os.environ["SECRET_KEY"]
_engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10, max_overflow=0)
_sessions = async_sessionmaker(_engine, expire_on_commit=False)
_oauth2_scheme = OAuth2PasswordBearer(tokenUrl="/api/auth/login")

app = FastAPI()


class RecordCreate(BaseModel):
    """What is sent for a new record."""

    name: str
    description: str | None = None
    config: dict[str, Any] | None = None
    status: str = "active"


class RecordUpdate(BaseModel):
    """What is sent for a change."""

    name: str | None = None
    description: str | None = None
    config: dict[str, Any] | None = None
    status: str | None = None


class RecordOut(BaseModel):
    """What is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    description: str | None
    config: dict[str, Any] | None
    status: str
    owner_id: int | None
    revision: int
    created_at: datetime
    updated_at: datetime
    next_run_at: datetime | None
    schedule_summary: dict[str, Any] | None


class Page(BaseModel):
    """A page of records."""

    data: list[RecordOut]
    total: int
    skip: int
    limit: int


class Refresh(BaseModel):
    """What is sent for a new pair of tokens."""

    refresh_token: str


class Tokens(BaseModel):
    """A pair of tokens."""

    access_token: str
    refresh_token: str
    token_type: str


async def get_db() -> AsyncIterator[AsyncSession]:
    """One session for each request."""
    async with _sessions() as session:
        yield session


Db = Annotated[AsyncSession, Depends(get_db)]


async def get_current_user(token: Annotated[str, Depends(_oauth2_scheme)], db: Db) -> User:
    """Who is calling."""
    refused = HTTPException(status.HTTP_401_UNAUTHORIZED, "Could not validate credentials")
    try:
        claims = jwt.decode(token, _KEY, algorithms=["HS256"], audience="pyapi-api")
    except JWTError:
        raise refused from None
    user = (await db.execute(select(User).where(User.id == int(claims["sub"])))).scalar_one_or_none()
    if user is None or not user.is_active:
        raise refused
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


@app.get("/api/health")
async def health() -> dict[str, str]:
    """Whether it lives."""
    return {"status": "ok"}


@app.get("/api/data/{record_id}", response_model=RecordOut)
async def read(record_id: int, db: Db, _: CurrentUser) -> Any:
    """One record."""
    record = await db.get(DataRecord, record_id)
    if record is None:
        raise HTTPException(404, "Not found")
    return record


@app.get("/api/data/", response_model=Page)
async def page(db: Db, _: CurrentUser, skip: int = 0, limit: int = 10, status: str | None = None) -> Any:
    """The newest records, and how many there are."""
    query, count = select(DataRecord), select(func.count()).select_from(DataRecord)
    if status is not None:
        query, count = query.where(DataRecord.status == status), count.where(DataRecord.status == status)
    query = query.order_by(DataRecord.created_at.desc(), DataRecord.id.desc()).offset(skip).limit(limit)
    records = (await db.execute(query)).scalars().all()
    return {"data": records, "total": await db.scalar(count), "skip": skip, "limit": limit}


@app.post("/api/data/", response_model=RecordOut, status_code=201)
async def create(body: RecordCreate, db: Db, user: CurrentUser) -> Any:
    """Store a record."""
    record = DataRecord(**body.model_dump(), owner_id=user.id)
    db.add(record)
    await db.commit()
    await db.refresh(record)
    return record


@app.put("/api/data/{record_id}", response_model=RecordOut)
async def update(record_id: int, body: RecordUpdate, db: Db, user: CurrentUser) -> Any:
    """Change an own record."""
    record = await db.get(DataRecord, record_id)
    if record is None:
        raise HTTPException(404, "Not found")
    if record.owner_id != user.id:
        raise HTTPException(403, "Not yours")
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(record, name, value)
    await db.commit()
    await db.refresh(record)
    return record


@app.post("/api/auth/refresh", response_model=Tokens)
async def refresh(body: Refresh, db: Db) -> Any:
    """Exchange a refresh token."""
    digest = hashlib.sha256(body.refresh_token.encode()).hexdigest()
    used = (await db.execute(select(RefreshToken).where(RefreshToken.token == digest))).scalar_one_or_none()
    if used is None or not used.is_active or used.expires_at < datetime.now(UTC):
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Could not validate credentials")
    user = await db.get(User, used.user_id)
    if user is None or not user.is_active:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Could not validate credentials")
    successor = secrets.token_urlsafe(32)
    used.is_active = False
    db.add(
        RefreshToken(
            token=hashlib.sha256(successor.encode()).hexdigest(),
            user_id=user.id,
            family_id=used.family_id,
            parent_id=used.id,
            expires_at=used.expires_at,
        )
    )
    await db.commit()
    access_token = _create_access_token(user.id, used.family_id)
    return {"access_token": access_token, "refresh_token": successor, "token_type": "bearer"}


def _create_access_token(user_id: int, session_id: UUID) -> str:
    now = datetime.now(UTC)
    claims = {
        "sub": str(user_id),
        "sid": str(session_id),
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + timedelta(minutes=30),
        "aud": "pyapi-api",
    }
    return jwt.encode(claims, _KEY, algorithm="HS256")
