"""The first schema: all tables of both planes."""

from collections.abc import Sequence

from alembic import op

from tocsin.storage.control.schema import set_version
from tocsin.storage.tables import metadata

revision = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    set_version(op.get_bind(), int(revision))
