"""The tenant's decision how long measurements are kept."""

from datetime import UTC, datetime

from api.telemetry.policy_schemas import StoragePolicyForm, StoragePolicyView
from api.work import Work
from core.db.repositories import storage
from core.db.tables import StoragePolicy
from core.errors import FieldError, InvalidInputError

# An hour that gets late rows is rolled up again, and so is its day: what they are made from must
# still be there.
_NOT_LONGER = (("raw_days", "hour_days"), ("hour_days", "day_days"))


async def get(work: Work) -> StoragePolicyView:
    """Return the policy."""
    return _view(await storage.policy(work.session, work.tenant_id))


async def put(work: Work, form: StoragePolicyForm) -> StoragePolicyView:
    """Decide; the next nightly maintenance applies it.

    Raises:
        InvalidInputError: Something would be kept longer than what is made from it.
    """
    errors = tuple(
        FieldError(f"/{shorter}", f"must not be longer than {longer}.")
        for shorter, longer in _NOT_LONGER
        if (limit := getattr(form, longer)) is not None
        and ((days := getattr(form, shorter)) is None or days > limit)
    )
    if errors:
        raise InvalidInputError("The policy contradicts itself.", errors=errors)
    wanted = StoragePolicy(
        tenant_id=work.tenant_id, updated_at=datetime.now(UTC), **form.model_dump()
    )
    stored = await storage.save_policy(work.session, wanted)
    work.audit("telemetry.policy", "storage_policy", work.tenant_id, **form.model_dump())
    return _view(stored)


def _view(policy: StoragePolicy) -> StoragePolicyView:
    return StoragePolicyView.model_validate(policy.model_dump())
