/** Counts over the whole tenant: the totals of lists that are otherwise empty. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/lib/api/client";
import type { RunStatus } from "@/lib/api/types";

export const RUN_STATUSES = [
  "pending",
  "running",
  "waiting",
  "completed",
  "failed",
  "cancelled",
] as const satisfies RunStatus[];

export function deviceCounts() {
  return queryOptions({
    queryKey: ["devices", "counts"],
    queryFn: async ({ signal }) => {
      const [all, online] = await Promise.all([
        unwrap(api.GET("/api/v1/devices", { signal, params: { query: { limit: 1 } } })),
        unwrap(
          api.GET("/api/v1/devices", { signal, params: { query: { limit: 1, status: "online" } } }),
        ),
      ]);
      return { total: all.pagination.total, online: online.pagination.total };
    },
  });
}

export function runCounts() {
  return queryOptions({
    queryKey: ["runs", "counts"],
    queryFn: ({ signal }) =>
      Promise.all(
        RUN_STATUSES.map(async (status) => {
          const { pagination } = await unwrap(
            api.GET("/api/v1/executions", { signal, params: { query: { limit: 1, status } } }),
          );
          return { status, total: pagination.total };
        }),
      ),
  });
}
