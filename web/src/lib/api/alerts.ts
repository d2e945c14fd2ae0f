/** Alarms: what the pages ask and tell the API. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/lib/api/client";
import type { Alarm } from "@/lib/api/types";

const PAGE = 50;

export const ALARM_STATUSES = [
  "raised",
  "acknowledged",
  "cleared",
] as const satisfies Alarm["status"][];

export const alarmsKey = ["alarms"] as const;

interface Wanted {
  page?: number;
  limit?: number;
  status?: string;
  deviceId?: string;
}

/** Alarms, newest first. */
export function alarmList({ page = 1, limit = PAGE, status, deviceId }: Wanted) {
  return queryOptions({
    queryKey: [...alarmsKey, { page, limit, status, deviceId }],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/alerts", {
          signal,
          params: {
            query: {
              page,
              limit,
              ...(status && { status: status as Alarm["status"] }),
              ...(deviceId && { device_id: deviceId }),
            },
          },
        }),
      ),
  });
}

export function acknowledgeAlarm(id: string): Promise<Alarm> {
  return unwrap(
    api.POST("/api/v1/alerts/{alert_id}/acknowledge", { params: { path: { alert_id: id } } }),
  );
}
