"""Answers predictions: reads the device's own measurements, computes in a thread, records."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import numpy as np

from core.db.repositories import analytics
from core.db.repositories.analytics import DeviceContext
from core.db.session import Database
from core.db.tables import Prediction
from core.errors import InvalidInputError, NotFoundError
from core.settings import Settings
from mlops.calibration import COVERAGE
from mlops.cycles import OVERHAUL, Observed, observe
from mlops.inference import statistics
from mlops.inference.champions import Champion, ChampionStore
from mlops.inference.failure import RECENT, forecast_failure
from mlops.inference.profile import PredictionSettings, metric_range
from mlops.inference.result import ModelInfo, PredictionResult, PredictionType, PredictionValue
from mlops.registry import model_name

_PARALLEL: Final = 8
"""Predictions under way at once, below the size of the connection pool; the rest wait in line."""

_ROBUST_Z: Final = "robust-z-1"
_THEIL_SEN: Final = "theil-sen-1"


class Predictor:
    """Predictions for devices of any tenant; one per process, closed at its end.

    docs/models.md defines every figure of the answers.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._champions = ChampionStore(settings)
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def close(self) -> None:
        """End what runs in the background."""
        await self._champions.close()

    async def champion(self, tenant_id: UUID, profile_name: str) -> Champion:
        """Return the model that serves a tenant's devices of one type.

        Raises:
            NotFoundError: There is none.
            UnavailableError: None is known here and the registry does not answer.
            ArtifactDamagedError: The stored model is not what was registered.
        """
        return await self._champions.get(model_name(tenant_id, profile_name))

    async def predict(
        self,
        tenant_id: UUID,
        device_id: UUID,
        prediction_type: PredictionType,
        horizon_hours: float | None = None,
        confidence_threshold: float | None = None,
    ) -> PredictionResult:
        """Predict for one device and store the answer.

        Args:
            tenant_id: The tenant, whose rows alone are seen.
            device_id: The device.
            prediction_type: `failure`, `anomaly` or `trend`.
            horizon_hours: How far ahead the probability looks; by default the profile's.
            confidence_threshold: Below this confidence no action is recommended, and
                `details.confident` is false.

        Raises:
            NotFoundError: The tenant has no such device, or no model was trained for its type.
            InvalidInputError: The device has sent too little, or the type is unknown.
            ConfigurationError: The profile's prediction settings are malformed.
            UnavailableError: No champion is known here and the registry does not answer.
        """
        async with self._slots:
            async with self._database.transaction(tenant_id) as session:
                device = await analytics.device_context(session, device_id)
            if device is None:
                raise NotFoundError(f"there is no device {device_id}")
            rules = PredictionSettings.of(device.configuration, device.profile_name)
            horizon = rules.horizon_hours if horizon_hours is None else horizon_hours
            match prediction_type:
                case "failure":
                    result, name = await self._failure(tenant_id, device, rules, horizon)
                case "anomaly":
                    result, name = await self._anomaly(tenant_id, device)
                case "trend":
                    result, name = await self._trend(tenant_id, device, rules, horizon)
                case _:
                    raise InvalidInputError(f"unknown type of prediction: {prediction_type}")
            self._recommend(result, rules, confidence_threshold)
            await self._store(tenant_id, result, name)
            return result

    async def _observe(
        self, tenant_id: UUID, device: DeviceContext, recent: int, failure_event: str | None
    ) -> Observed:
        async with self._database.transaction(tenant_id) as session:
            since = None
            if failure_event is not None:
                since = await analytics.last_event(session, device.id, [failure_event, OVERHAUL])
            return await observe(session, device.id, recent=recent, since=since)

    async def _failure(
        self, tenant_id: UUID, device: DeviceContext, rules: PredictionSettings, horizon: float
    ) -> tuple[PredictionResult, str]:
        champion = await self.champion(tenant_id, device.profile_name)
        metadata = champion.model.metadata
        observed = await self._observe(tenant_id, device, RECENT, metadata.failure_event)
        forecast = await asyncio.to_thread(
            forecast_failure, champion.model, observed.history, horizon / rules.cycle_hours
        )
        low, high = forecast.interval
        value = PredictionValue(
            type="failure",
            probability=forecast.probability,
            confidence=forecast.confidence,
            time_to_event=forecast.remaining * rules.cycle_hours,
        )
        details: dict[str, Any] = {
            "remaining_cycles": round(forecast.remaining, 2),
            "at_cap": forecast.remaining >= 0.95 * metadata.rul_cap,
            "interval": {
                "coverage": COVERAGE,
                "remaining_cycles": [round(low, 2), round(high, 2)],
                "hours": [low * rules.cycle_hours, high * rules.cycle_hours],
            },
            "horizon_hours": horizon,
            "cycles_seen": observed.history.total,
            "last_measurement": observed.times[-1].isoformat(),
            "top_signals": forecast.signals,
        }
        info = ModelInfo(
            version=champion.version,
            last_trained=metadata.trained_at,
            accuracy=metadata.metrics["accuracy"],
        )
        result = PredictionResult(
            device_id=device.id, prediction=value, model_info=info, details=details
        )
        return result, champion.name

    async def _anomaly(
        self, tenant_id: UUID, device: DeviceContext
    ) -> tuple[PredictionResult, str]:
        observed = await self._observe(tenant_id, device, statistics.HISTORY + 1, None)
        history = observed.history
        if not observed.times:
            raise InvalidInputError("the device has sent no measurements yet")
        finding = await asyncio.to_thread(statistics.find_anomaly, history.metrics, history.recent)
        ranked = sorted(finding.z.items(), key=lambda item: -abs(item[1]))
        value = PredictionValue(
            type="anomaly",
            probability=finding.probability,
            confidence=min(1.0, (len(observed.times) - 1) / statistics.HISTORY),
        )
        details: dict[str, Any] = {
            "anomalous": abs(ranked[0][1]) > statistics.Z_LIMIT,
            "limit": statistics.Z_LIMIT,
            "top_signals": [{"signal": name, "z": round(z, 3)} for name, z in ranked[:5]],
            "measurements": len(observed.times) - 1,
            "last_measurement": observed.times[-1].isoformat(),
        }
        info = ModelInfo(version=_ROBUST_Z, last_trained=observed.times[-1], accuracy=finding.usual)
        result = PredictionResult(
            device_id=device.id, prediction=value, model_info=info, details=details
        )
        return result, _ROBUST_Z

    async def _trend(
        self, tenant_id: UUID, device: DeviceContext, rules: PredictionSettings, horizon: float
    ) -> tuple[PredictionResult, str]:
        observed = await self._observe(tenant_id, device, statistics.HISTORY, None)
        history, times = observed.history, observed.times
        if not times:
            raise InvalidInputError("the device has sent no measurements yet")
        hours = np.array([(time - times[-1]).total_seconds() / 3600 for time in times])
        metric = rules.trend_metric
        if metric is None:
            fit = partial(statistics.strongest_trend, history.metrics, hours, history.recent)
        elif metric in history.metrics:
            column = history.recent[:, history.metrics.index(metric)]
            fit = partial(statistics.fit_trend, metric, hours, column)
        else:
            raise InvalidInputError(f"the device has not sent {metric}, its profile's trend_metric")
        trend = await asyncio.to_thread(fit)
        bounds = metric_range(device.configuration, trend.metric)
        value = PredictionValue(
            type="trend",
            probability=trend.agreement
            if bounds is None
            else trend.probability_outside(horizon, *bounds),
            confidence=trend.agreement,
            time_to_event=None if bounds is None else trend.hours_until_outside(*bounds),
        )
        details: dict[str, Any] = {
            "metric": trend.metric,
            "slope_per_hour": trend.slope,
            "level": trend.level,
            "forecast": trend.at(horizon),
            "interval": {"coverage": COVERAGE, "value": list(trend.interval(horizon))},
            "range": None if bounds is None else list(bounds),
            "horizon_hours": horizon,
            "measurements": len(times),
            "last_measurement": times[-1].isoformat(),
        }
        info = ModelInfo(version=_THEIL_SEN, last_trained=times[-1], accuracy=trend.inside)
        result = PredictionResult(
            device_id=device.id, prediction=value, model_info=info, details=details
        )
        return result, _THEIL_SEN

    @staticmethod
    def _recommend(
        result: PredictionResult, rules: PredictionSettings, threshold: float | None
    ) -> None:
        confident = threshold is None or result.prediction.confidence >= threshold
        result.details["confident"] = confident
        if confident:
            result.prediction.recommended_actions = rules.actions(result.prediction.time_to_event)

    async def _store(self, tenant_id: UUID, result: PredictionResult, name: str) -> None:
        value = result.prediction
        row = Prediction(
            tenant_id=tenant_id,
            device_id=result.device_id,
            time=datetime.now(UTC),
            prediction_type=value.type,
            probability=value.probability,
            confidence=value.confidence,
            time_to_event=value.time_to_event,
            details={**result.details, "recommended_actions": value.recommended_actions},
            model_name=name,
            model_version=result.model_info.version,
        )
        async with self._database.transaction(tenant_id) as session:
            await analytics.add_predictions(session, [row])
