"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import Link from "next/link";
import { useSearchParams } from "next/navigation";

import { ApprovalPanel } from "@/components/workflows/approval-panel";
import { StepTrace } from "@/components/workflows/step-trace";
import { Badge } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { Facts } from "@/components/ui/facts";
import { Json } from "@/components/ui/json";
import { PageHeader } from "@/components/ui/page-header";
import { Panel } from "@/components/ui/panel";
import { Empty, Failure, Loaded } from "@/components/ui/states";
import { StatusBadge } from "@/components/ui/status-badge";
import { Ago, Elapsed } from "@/components/ui/time";
import {
  cancelRun,
  isOver,
  runDetails,
  runsKey,
  workflowNames,
  type RunAddress,
} from "@/lib/api/workflows";
import type { RunDetails } from "@/lib/api/types";
import { useMay } from "@/lib/auth/permissions";
import { deviceHref, workflowHref } from "@/lib/routes";

const POLL_MS = 1_500;

export function RunPage() {
  const params = useSearchParams();
  const address = { workflowId: params.get("workflow") ?? "", runId: params.get("id") ?? "" };
  const query = useQuery({
    ...runDetails(address),
    refetchInterval: ({ state }) => (state.data && isOver(state.data) ? false : POLL_MS),
  });
  return (
    <>
      {!query.data && (
        <PageHeader title="Run" parent={{ href: "/workflows/", label: "Workflows" }} />
      )}
      <Loaded query={query} title="The run could not be loaded" rows={6}>
        {(run) => <RunView run={run} />}
      </Loaded>
    </>
  );
}

function RunView({ run }: { run: RunDetails }) {
  const may = useMay();
  const address = { workflowId: run.workflow_id, runId: run.execution_id };
  const names = useQuery(workflowNames());
  const waiting = run.steps.filter(
    (step) => step.step_type === "approval" && step.status === "waiting",
  );
  return (
    <>
      <PageHeader
        title="Run"
        parent={{
          href: workflowHref(run.workflow_id),
          label: names.data?.get(run.workflow_id) ?? "Workflow",
        }}
        meta={
          <>
            <StatusBadge status={run.status} />
            {run.dry_run && <Badge>dry run</Badge>}
          </>
        }
        actions={!isOver(run) && may("workflows:execute") && <Cancel address={address} />}
      />
      <div className="grid gap-4 lg:grid-cols-[20rem_minmax(0,1fr)] lg:items-start">
        <Panel title="Details">
          <div className="flex flex-col gap-3">
            <Facts facts={factsOf(run)} />
            <div className="flex flex-col gap-1">
              <h3 className="text-muted">Trigger</h3>
              <Json label="Trigger" value={run.trigger} />
            </div>
          </div>
        </Panel>
        <div className="flex min-w-0 flex-col gap-4">
          {may("workflows:approve") &&
            waiting.map((step) => <ApprovalPanel key={step.path} address={address} step={step} />)}
          {run.error && (
            <Panel title="Why it failed">
              <Json label="Error of the run" value={run.error} />
            </Panel>
          )}
          <Panel title="Steps" flush>
            {run.steps.length === 0 ? (
              <Empty title={isOver(run) ? "No step was run" : "Not started yet"} />
            ) : (
              <StepTrace steps={run.steps} />
            )}
          </Panel>
        </div>
      </div>
    </>
  );
}

function factsOf(run: RunDetails): [string, React.ReactNode][] {
  return [
    ["Version", run.version],
    ["Started", <Ago key="started" time={run.started_at} />],
    ["Took", <Elapsed key="took" start={run.started_at} end={run.completed_at} />],
    ...(run.device_id
      ? [
          [
            "Device",
            <Link
              key="device"
              href={deviceHref(run.device_id)}
              className="text-accent hover:underline"
            >
              Open device
            </Link>,
          ] as [string, React.ReactNode],
        ]
      : []),
    [
      "Id",
      <code key="id" className="font-mono text-xs break-all select-all">
        {run.execution_id}
      </code>,
    ],
  ];
}

function Cancel({ address }: { address: RunAddress }) {
  const queries = useQueryClient();
  const mutation = useMutation({
    mutationFn: () => cancelRun(address),
    onSuccess: () => queries.invalidateQueries({ queryKey: runsKey }),
  });
  return (
    <>
      {mutation.error && <Failure error={mutation.error} />}
      <Button
        variant="danger"
        busy={mutation.isPending || mutation.isSuccess}
        onClick={() => mutation.mutate()}
      >
        Cancel run
      </Button>
    </>
  );
}
