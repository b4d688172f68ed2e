"""Routes of personal access tokens."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from pyapi.exceptions import Busy, Conflict, DatabaseUnavailable, InvalidToken, NotFound, TooManyRequests
from pyapi.schemas.fields import MAX_ID, Message
from pyapi.schemas.token_schemas import TokenCreate, TokenCreated, TokenList
from pyapi.utils.dependencies import PersonalTokens
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(prefix="/auth/tokens", tags=["認證 Authentication"], route_class=StrictRoute)

TokenId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.post(
    "",
    status_code=201,
    responses=problem_responses([InvalidToken, Conflict, TooManyRequests, Busy, DatabaseUnavailable]),
)
async def create_token(body: TokenCreate, tokens: PersonalTokens, response: Response) -> TokenCreated:
    """Make a personal access token for a program to sign in as you. It needs your password, and is shown this once."""
    response.headers["Cache-Control"] = "no-store"
    return await tokens.create(body)


@router.get("", responses=problem_responses([InvalidToken]))
async def list_tokens(tokens: PersonalTokens) -> TokenList:
    """List your personal access tokens, the newest first."""
    return await tokens.all()


@router.delete("/{token_id}", responses=problem_responses([InvalidToken, NotFound]))
async def revoke_token(token_id: TokenId, tokens: PersonalTokens) -> Message:
    """Revoke one of your personal access tokens; it is refused from now on."""
    await tokens.revoke(token_id)
    return Message(message="The token was revoked.")
