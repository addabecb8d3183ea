"""Issues: what troubles the channels of environments have, and since when."""

from litestar import get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.errors import Invalid
from tocsin.domain.ids import normalize_id, strip_prefix
from tocsin.domain.model import Issue, IssueStatus
from tocsin.domain.text import iso
from tocsin.service.issues import IssuePatch
from tocsin.service.sight import Sight
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.hookstream.place import (
    ENVIRONMENT,
    ORGANIZATION,
    named_environment,
    organization_sight,
)
from tocsin.web.hookstream.replies import READS, WRITES

PATH = "/issues"
LIMIT_DEFAULT = 50
LIMIT_MAX = 100
OFFSET_MAX = 999_999_999
ALL = "all"
STATUSES = (*(status.value for status in IssueStatus), ALL)


class IssueChangeIn(Struct):
    """Changes of an issue: what is left out stays, other keys are ignored."""

    status: IssueStatus | UnsetType = UNSET
    snoozed_until: str | UnsetType | None = UNSET


class IssueOut(Struct):
    """An issue."""

    id: str
    org_id: str
    env_id: str
    destination_id: str
    destination_name: str | None
    fingerprint: str
    title: str
    status: str
    snoozed_until: str | None
    occurrence_count: int
    first_seen_at: str
    last_seen_at: str
    resolved_at: str | None
    last_attempt_id: str | None
    last_event_id: str | None
    last_error: str | None
    last_status_code: int | None
    created_at: str
    updated_at: str


class Pagination(Struct):
    """Which part of how many."""

    total: int
    limit: int
    offset: int
    has_more: bool


class IssueReply(Struct):
    """One issue."""

    issue: IssueOut


class IssuesReply(Struct):
    """A page of issues, newest first."""

    issues: list[IssueOut]
    pagination: Pagination


class IssueSummaryReply(Struct):
    """How many there are."""

    open: int
    acknowledged: int
    resolved: int


class IssueRetryReply(Struct):
    """How many deliveries are sent once more."""

    success: bool
    retried: int


async def existing(call: Call, operation: str) -> None:
    """Raise NotFound, then Forbidden, for the issue that a call with a body is about."""
    call.sight, id = await _place(call, call.path_params["id"])
    await call.services.issues.get(call.caller, call.sight, id, operation=operation)


async def _place(call: Call, id: str) -> tuple[Sight, str]:
    """Where a call that names only an issue looks for it."""
    id = strip_prefix(id)
    return await call.services.issues.sight_of(call.caller, id), id


def _time(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def _shown(issue: Issue) -> IssueOut:
    attempt = None
    if issue.last_delivery_id is not None and issue.last_attempt_number is not None:
        attempt = f"{issue.last_delivery_id}.{issue.last_attempt_number}"
    return IssueOut(
        id=issue.id,
        org_id=issue.organization_id,
        env_id=issue.project_id or "",
        destination_id=issue.channel_id,
        destination_name=issue.channel_name,
        fingerprint=issue.fingerprint,
        title=issue.title,
        status=issue.status,
        snoozed_until=_time(issue.snoozed_until),
        occurrence_count=issue.occurrence_count,
        first_seen_at=iso(issue.first_seen_at),
        last_seen_at=iso(issue.last_seen_at),
        resolved_at=_time(issue.resolved_at),
        last_attempt_id=attempt,
        last_event_id=issue.last_event_id,
        last_error=issue.last_error,
        last_status_code=issue.last_status_code,
        created_at=iso(issue.created_at),
        updated_at=iso(issue.updated_at),
    )


@get(
    PATH,
    opt={"operation": "issue.list"},
    responses=READS,
    operation_class=spec.takes(
        spec.choice("status", "open, if it is left out", STATUSES),
        spec.text("destination_id", "of this channel only"),
        spec.number("limit", "how many", least=1, most=LIMIT_MAX, default=LIMIT_DEFAULT),
        spec.number("offset", "after how many others", least=0, most=OFFSET_MAX, default=0),
        ENVIRONMENT,
        ORGANIZATION,
    ),
)
async def list_issues(request: Call) -> IssuesReply:
    """The issues of an environment, or of all in sight."""
    query = request.parameters()
    status = query.one_of("status", STATUSES) or IssueStatus.OPEN
    limit = query.integer("limit", default=LIMIT_DEFAULT, least=1, most=LIMIT_MAX)
    offset = query.integer("offset", default=0, least=0, most=OFFSET_MAX)
    sight = await organization_sight(request)
    found, total = await request.services.issues.page(
        request.caller,
        sight,
        project_id=await named_environment(request, sight),
        channel_id=_destination(query.text("destination_id")),
        status=None if status == ALL else IssueStatus(status),
        offset=offset,
        limit=limit,
    )
    pagination = Pagination(total, limit, offset, offset + len(found) < total)
    return IssuesReply([_shown(issue) for issue in found], pagination)


def _destination(text: str | None) -> str | None:
    """A channel by its id; one that is deleted may have issues still."""
    if text is None:
        return None
    found = normalize_id(strip_prefix(text))
    if found is None:
        raise Invalid("destination_id", "must be an id")
    return found


@get(
    PATH + "/summary",
    opt={"operation": "issue.list"},
    responses=READS,
    operation_class=spec.takes(ENVIRONMENT, ORGANIZATION),
)
async def summarize_issues(request: Call) -> IssueSummaryReply:
    """How many issues there are in each state, in an environment or all in sight."""
    sight = await organization_sight(request)
    env_id = await named_environment(request, sight)
    counts = await request.services.issues.summary(request.caller, sight, project_id=env_id)
    return IssueSummaryReply(**{status.value: count for status, count in counts.items()})


@get(PATH + "/{id:str}", opt={"operation": "issue.get"}, responses=READS)
async def get_issue(request: Call, id: FromPath[str]) -> IssueReply:
    """One issue."""
    sight, id = await _place(request, id)
    return IssueReply(_shown(await request.services.issues.get(request.caller, sight, id)))


@patch(
    PATH + "/{id:str}",
    opt={"operation": "issue.update", "existing": existing},
    responses=WRITES,
)
async def update_issue(
    request: Call, id: FromPath[str], data: JSONBody[IssueChangeIn]
) -> IssueReply:
    """Change an issue's state, or silence it for a while."""
    change = IssuePatch(status=data.status, snoozed_until=data.snoozed_until)
    issue = await request.services.issues.update(
        request.caller, request.sight, strip_prefix(id), change
    )
    return IssueReply(_shown(issue))


@post(
    PATH + "/{id:str}/retry",
    opt={"operation": "issue.retry"},
    status_code=200,
    responses=WRITES,
)
async def retry_issue(request: Call, id: FromPath[str]) -> IssueRetryReply:
    """Send once more what was given up for this trouble since the issue was opened."""
    sight, id = await _place(request, id)
    retried = await request.services.issues.retry(request.caller, sight, id)
    return IssueRetryReply(True, retried)


HANDLERS = (list_issues, summarize_issues, get_issue, update_issue, retry_issue)

STRUCTS = (
    IssueChangeIn,
    IssueReply,
    IssuesReply,
    IssueSummaryReply,
    IssueRetryReply,
)
