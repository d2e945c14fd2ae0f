/** Automations and their runs: what the pages ask and tell the API. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/lib/api/client";
import type { RunStatus, SavedWorkflow, Workflow } from "@/lib/api/types";

const PAGE = 25;
const MOST = 500;

export const workflowsKey = ["workflows"] as const;
export const runsKey = ["runs"] as const;

export function workflowList(page: number) {
  return queryOptions({
    queryKey: [...workflowsKey, "list", page],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/api/v1/workflows", { signal, params: { query: { page, limit: PAGE } } })),
  });
}

/** Names of automations by their ids, for lists of runs. */
export function workflowNames() {
  return queryOptions({
    queryKey: [...workflowsKey, "names"],
    staleTime: 60_000,
    queryFn: async ({ signal }) => {
      const { workflows } = await unwrap(
        api.GET("/api/v1/workflows", { signal, params: { query: { limit: MOST } } }),
      );
      return new Map(workflows.map(({ id, name }) => [id, name] as const));
    },
  });
}

export function workflowDetails(id: string) {
  return queryOptions({
    queryKey: [...workflowsKey, id],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/workflows/{workflow_id}", {
          signal,
          params: { path: { workflow_id: id } },
        }),
      ),
  });
}

export function createWorkflow(definition: Record<string, unknown>): Promise<SavedWorkflow> {
  return unwrap(api.POST("/api/v1/workflows", { body: definition }));
}

/** Publish a new version, unless somebody else has published one since `from` was loaded. */
export function updateWorkflow(
  from: Workflow,
  definition: Record<string, unknown>,
): Promise<SavedWorkflow> {
  return unwrap(
    api.PUT("/api/v1/workflows/{workflow_id}", {
      params: { path: { workflow_id: from.id } },
      body: { ...definition, expected_version: from.version },
    }),
  );
}

export function setEnabled(id: string, enabled: boolean) {
  const params = { path: { workflow_id: id } };
  return unwrap(
    enabled
      ? api.POST("/api/v1/workflows/{workflow_id}/enable", { params })
      : api.POST("/api/v1/workflows/{workflow_id}/disable", { params }),
  );
}

export function executeWorkflow(
  id: string,
  input: { input_data: Record<string, unknown>; dry_run: boolean },
) {
  return unwrap(
    api.POST("/api/v1/workflows/{workflow_id}/execute", {
      params: { path: { workflow_id: id } },
      body: input,
    }),
  );
}

/** Runs of all automations, newest first. */
export function allRuns(wanted: { status?: RunStatus; limit: number }) {
  return queryOptions({
    queryKey: [...runsKey, "all", wanted],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/api/v1/executions", { signal, params: { query: wanted } })),
  });
}

/** Runs of one automation, newest first. */
export function runList(workflowId: string, wanted: { page?: number; limit?: number } = {}) {
  return queryOptions({
    queryKey: [...runsKey, "of", workflowId, wanted],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/workflows/{workflow_id}/executions", {
          signal,
          params: { path: { workflow_id: workflowId }, query: { limit: PAGE, ...wanted } },
        }),
      ),
  });
}

export interface RunAddress {
  workflowId: string;
  runId: string;
}

function pathOf({ workflowId, runId }: RunAddress) {
  return { path: { workflow_id: workflowId, execution_id: runId } };
}

export function runDetails(address: RunAddress) {
  return queryOptions({
    queryKey: [...runsKey, address],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/api/v1/workflows/{workflow_id}/executions/{execution_id}", {
          signal,
          params: pathOf(address),
        }),
      ),
  });
}

export function decide(
  address: RunAddress,
  decision: { step: string; approved: boolean; comment: string },
) {
  return unwrap(
    api.POST("/api/v1/workflows/{workflow_id}/executions/{execution_id}/approve", {
      params: pathOf(address),
      body: decision,
    }),
  );
}

export function cancelRun(address: RunAddress) {
  return unwrap(
    api.POST("/api/v1/workflows/{workflow_id}/executions/{execution_id}/cancel", {
      params: pathOf(address),
    }),
  );
}

/** Whether a run has ended, one way or another. */
export function isOver({ status }: { status: RunStatus }): boolean {
  return status === "completed" || status === "failed" || status === "cancelled";
}
