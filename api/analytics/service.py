"""Predictions, trainings, and the models that serve."""

from uuid import UUID, uuid4

from api.analytics.schemas import (
    ChampionList,
    ChampionView,
    PredictForm,
    PredictionList,
    PredictView,
    StoredPrediction,
    TrainingForm,
    TrainingProgressView,
    TrainingResultView,
    TrainingStarted,
    TrainingStatus,
    TrainingView,
)
from api.deps import Page, WorkFactory
from api.devices.service import unknown_type
from api.schemas import Pagination
from api.services import Services
from api.work import Work
from core.db.repositories import audit, devices, predictions
from core.errors import ConflictError, NotFoundError, UnavailableError
from core.temporal import names
from core.temporal.contracts import TrainingInput, TrainingResult
from core.temporal.outbox import StartWorkflow
from core.temporal.training_contracts import TrainingProgress

_STARTED = "model.training_started"
_RESOURCE = "training"
_STATUSES: dict[str, TrainingStatus] = {
    "running": "running",
    "continued_as_new": "running",
    "completed": "completed",
    "canceled": "cancelled",
}


async def predict(services: Services, tenant_id: UUID, form: PredictForm) -> PredictView:
    """Ask a model about a device; the answer is stored.

    Raises:
        NotFoundError: There is no such device, or no model for its type.
        InvalidInputError: The device has sent too little.
        UnavailableError: No model is known here and the registry is down.
    """
    result = await services.predictor.predict(
        tenant_id,
        form.device_id,
        form.prediction_type,
        form.horizon,
        form.confidence_threshold,
    )
    return PredictView.model_validate(result)


async def page(
    work: Work, device_id: UUID | None, prediction_type: str | None, place: Page
) -> PredictionList:
    """Return a page of predictions."""
    rows, total = await predictions.page(
        work.session,
        device_id=device_id,
        prediction_type=prediction_type,
        offset=place.offset,
        limit=place.limit,
    )
    return PredictionList(
        predictions=[StoredPrediction.model_validate(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def train(work: Work, form: TrainingForm) -> TrainingStarted:
    """Start a training.

    Raises:
        InvalidInputError: There is no such profile.
    """
    from mlops.registry import model_name

    profile = (await devices.profiles_by_name(work.session, [form.device_type])).get(
        form.device_type
    )
    if profile is None:
        raise unknown_type("/device_type", form.device_type)
    training_id = uuid4()
    start = TrainingInput(
        tenant_id=work.tenant_id,
        training_id=training_id,
        profile_id=profile.id,
        model_name=model_name(work.tenant_id, profile.name),
        **form.model_dump(exclude={"device_type"}),
    )
    await work.enqueue(
        StartWorkflow(
            workflow_type=names.WorkflowType.MODEL_TRAINING,
            workflow_id=names.training_id(work.tenant_id, training_id),
            input=start.model_dump(mode="json"),
        )
    )
    work.audit(_STARTED, _RESOURCE, training_id, device_type=profile.name)
    return TrainingStarted(training_id=training_id, status="pending")


async def training(services: Services, factory: WorkFactory, training_id: UUID) -> TrainingView:
    """Tell how a training stands.

    Raises:
        NotFoundError: There is none.
        UnavailableError: Temporal is down.
    """
    async with factory() as work:
        known = await audit.find(
            work.session, action=_STARTED, resource_type=_RESOURCE, resource_id=str(training_id)
        )
    if known is None:
        raise NotFoundError("There is no such training.")
    workflow_id = names.training_id(factory.caller.tenant_id, training_id)
    state = await services.temporal.state(workflow_id)
    if state is None:  # the relay has not started it yet
        return TrainingView(training_id=training_id, status="pending")
    view = TrainingView(
        training_id=training_id,
        status=_STATUSES.get(state.status, "failed"),
        started_at=state.started_at,
        completed_at=state.closed_at,
    )
    if view.status == "running":
        view.progress = await _progress(services, workflow_id)
    else:
        try:
            result = await services.temporal.result(workflow_id, TrainingResult)
        except ConflictError as error:
            view.error = error.detail
        else:
            view.result = TrainingResultView(
                version=result.model_version,
                promoted=result.promoted,
                metrics=result.metrics,
                champion_metrics=result.champion_metrics,
            )
    return view


async def _progress(services: Services, workflow_id: str) -> TrainingProgressView | None:
    try:
        progress = await services.temporal.query(workflow_id, "progress", TrainingProgress)
    except (ConflictError, UnavailableError):
        return None  # no worker is up to answer; that it runs is known all the same
    return None if progress is None else TrainingProgressView.model_validate(progress)


async def champions(services: Services, factory: WorkFactory) -> ChampionList:
    """Return the models that serve the tenant's device types.

    Raises:
        UnavailableError: None is known here and the registry is down.
    """
    async with factory() as work:
        profiles = sorted(await devices.profile_names(work.session))
    found: list[ChampionView] = []
    for profile in profiles:
        try:
            champion = await services.predictor.champion(factory.caller.tenant_id, profile)
        except NotFoundError:
            continue
        metadata = champion.model.metadata
        found.append(
            ChampionView(
                device_type=profile,
                version=champion.version,
                trained_at=metadata.trained_at,
                training_id=metadata.training_id,
                failure_event=metadata.failure_event,
                rul_cap=metadata.rul_cap,
                metrics=metadata.metrics,
            )
        )
    return ChampionList(models=found)
