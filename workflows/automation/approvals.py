"""Decisions of people that a run waits for."""

from temporalio.exceptions import ApplicationError

from core.temporal.contracts import ApprovalDecision
from core.temporal.steps import NOT_ASKED, STEP_NOT_WAITING, ApprovalAnswer, PendingApproval


class Approvals:
    """The approvals of one run that are open, and the decisions taken."""

    def __init__(self) -> None:
        self._open: dict[str, PendingApproval] = {}
        self._decided: dict[str, ApprovalDecision] = {}

    def ask(self, approval: PendingApproval) -> None:
        """Open an approval."""
        self._open[approval.path] = approval

    def decision(self, path: str) -> ApprovalDecision | None:
        """Return what was decided, if it was."""
        return self._decided.get(path)

    def close(self, path: str) -> None:
        """Stop waiting."""
        self._open.pop(path, None)

    def pending(self) -> list[PendingApproval]:
        """Return what waits for a decision."""
        return [item for item in self._open.values() if item.path not in self._decided]

    def check(self, decision: ApprovalDecision) -> PendingApproval:
        """Return the approval that a decision is for.

        Raises:
            ApplicationError: `StepNotWaiting` when there is none or it is decided, `NotAsked` when
                the person is not among those who were asked.
        """
        for item in self.pending():
            if decision.step in (item.step, item.path):
                if not any(_matches(identity, decision) for identity in item.to):
                    raise ApplicationError(
                        f"{decision.user_email} was not asked to decide `{item.step}`",
                        type=NOT_ASKED,
                    )
                return item
        raise ApplicationError(
            f"the step `{decision.step}` does not wait for a decision", type=STEP_NOT_WAITING
        )

    def decide(self, decision: ApprovalDecision) -> ApprovalAnswer:
        """Take a decision.

        Raises:
            ApplicationError: See `check`.
        """
        item = self.check(decision)
        self._decided[item.path] = decision
        return ApprovalAnswer(step=item.step, approved=decision.approved)


def _matches(identity: str, decision: ApprovalDecision) -> bool:
    kind, _, name = identity.partition(":")
    if kind == "role":
        return name in decision.roles
    return name.lower() == decision.user_email.lower()
