"""Inputs and results of keeping stored measurements: what is old is deleted or sealed."""

from uuid import UUID

from core.temporal.contracts import Contract


class StorageInput(Contract):
    """Apply every tenant's policy.

    Attributes:
        parallel: Tenants at the same time.
        remaining: Tenants still to do when the workflow continued as new; None at the start.
        done: What was done before.
    """

    parallel: int = 2
    remaining: tuple[UUID, ...] | None = None
    done: "StorageDone | None" = None


class TenantStorageInput(Contract):
    """Apply one tenant's policy."""

    tenant_id: UUID


class StorageDone(Contract):
    """What was done; counts.

    Attributes:
        tenants: Tenants whose policy was applied.
        failed: Tenants where that failed; the next run does it.
        devices: Devices looked at.
        sealed_rows: Rows that became part of a block.
        expired: Stretches of a device that were deleted.
        partitions: Partitions that were dropped or emptied.
    """

    tenants: int = 0
    failed: int = 0
    devices: int = 0
    sealed_rows: int = 0
    expired: int = 0
    partitions: int = 0

    def plus(self, other: "StorageDone") -> "StorageDone":
        """Return the sums."""
        mine, more = self.model_dump(), other.model_dump()
        return StorageDone(**{name: mine[name] + more[name] for name in mine})


StorageInput.model_rebuild()
