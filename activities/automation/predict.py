"""Asks a model about a device."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from temporalio import activity

from activities.automation.steps import parameters, perform
from activities.resources import Resources
from core.dsl.steps import PredictParameters
from core.errors import InvalidInputError
from core.temporal.activity_names import AutomationActivity
from core.temporal.steps import StepCall, StepDone

if TYPE_CHECKING:
    from mlops.inference import Predictor


class PredictActivities:
    """The step `predict`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._predictor: Predictor | None = None

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.predict,)

    @activity.defn(name=AutomationActivity.PREDICT)
    async def predict(self, call: StepCall) -> StepDone:
        """Predict; what the API answers, with the prediction's own fields at the top as well."""
        return await perform(lambda: self._predict(call))

    async def _predict(self, call: StepCall) -> dict[str, Any]:
        wanted = parameters(call, PredictParameters)
        if call.device_id is None:
            raise InvalidInputError("there is no device to predict for: give `device_id`")
        result = await self._models().predict(
            call.tenant_id,
            call.device_id,
            wanted.prediction_type,
            wanted.horizon,
            wanted.confidence_threshold,
        )
        answer = result.model_dump(mode="json")
        return {**answer, **answer["prediction"]}

    def _models(self) -> "Predictor":
        if self._predictor is None:
            # Costs seconds and 200 MB, which a worker that never predicts is spared.
            from mlops.inference import Predictor

            self._predictor = Predictor(self._resources.settings, self._resources.database)
        return self._predictor
