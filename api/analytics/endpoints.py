"""`/api/v1/analytics`."""

from uuid import UUID

from fastapi import APIRouter

from api.analytics import service
from api.analytics.schemas import (
    ChampionList,
    PredictForm,
    PredictionList,
    PredictView,
    TrainingForm,
    TrainingStarted,
    TrainingView,
)
from api.deps import CallerDep, PageDep, ServicesDep, WorkDep, WorkFactoryDep
from api.openapi import GUARDED, problems
from api.security.permissions import requires
from mlops.inference import PredictionType

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"], responses=GUARDED)


@router.post("/predict", dependencies=[requires("analytics:predict")], responses=problems(404))
async def predict(services: ServicesDep, caller: CallerDep, form: PredictForm) -> PredictView:
    """Ask a model about one device."""
    return await service.predict(services, caller.tenant_id, form)


@router.get("/predictions", dependencies=[requires("analytics:read")])
async def list_predictions(
    work: WorkDep,
    page: PageDep,
    device_id: UUID | None = None,
    prediction_type: PredictionType | None = None,
) -> PredictionList:
    """List predictions, newest first."""
    return await service.page(work, device_id, prediction_type, page)


@router.get("/models", dependencies=[requires("analytics:read")])
async def list_models(services: ServicesDep, work: WorkFactoryDep) -> ChampionList:
    """List the models that serve, by device type."""
    return await service.champions(services, work)


@router.post("/trainings", status_code=202, dependencies=[requires("models:train")])
async def start_training(work: WorkDep, form: TrainingForm) -> TrainingStarted:
    """Train a model for one device type from the history of its devices."""
    return await service.train(work, form)


@router.get(
    "/trainings/{training_id}", dependencies=[requires("analytics:read")], responses=problems(404)
)
async def get_training(
    services: ServicesDep, work: WorkFactoryDep, training_id: UUID
) -> TrainingView:
    """Tell how a training stands."""
    return await service.training(services, work, training_id)
