"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useRouter, useSearchParams } from "next/navigation";
import { useState } from "react";

import { DefinitionEditor } from "@/components/workflows/definition-editor";
import { RunTable } from "@/components/workflows/run-table";
import { ValidationWarnings } from "@/components/workflows/validation-warnings";
import { Badge } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { JsonForm } from "@/components/ui/json-form";
import { Json } from "@/components/ui/json";
import { PageHeader } from "@/components/ui/page-header";
import { Panel } from "@/components/ui/panel";
import { Empty, Failure, Loaded } from "@/components/ui/states";
import { Tabs } from "@/components/ui/tabs";
import {
  executeWorkflow,
  runList,
  setEnabled,
  updateWorkflow,
  workflowDetails,
  workflowsKey,
} from "@/lib/api/workflows";
import type { WorkflowDetails } from "@/lib/api/types";
import { useMay } from "@/lib/auth/permissions";
import { runHref } from "@/lib/routes";

const POLL_MS = 5_000;
const WORKFLOWS = { href: "/workflows/", label: "Workflows" };

export function WorkflowPage() {
  const id = useSearchParams().get("id") ?? "";
  const query = useQuery(workflowDetails(id));
  return (
    <>
      {!query.data && <PageHeader title="Workflow" parent={WORKFLOWS} />}
      <Loaded query={query} title="The workflow could not be loaded" rows={6}>
        {(workflow) => <WorkflowView key={workflow.id} workflow={workflow} />}
      </Loaded>
    </>
  );
}

function WorkflowView({ workflow }: { workflow: WorkflowDetails }) {
  const may = useMay();
  return (
    <>
      <PageHeader
        title={workflow.name}
        parent={WORKFLOWS}
        meta={
          <>
            <Badge tone={workflow.enabled ? "good" : "neutral"}>
              {workflow.enabled ? "enabled" : "disabled"}
            </Badge>
            <span className="text-muted">version {workflow.version ?? "–"}</span>
          </>
        }
        actions={may("workflows:update") && <Toggle workflow={workflow} />}
      />
      {workflow.description && <p className="mb-4 text-muted">{workflow.description}</p>}
      <Tabs
        label="About this workflow"
        tabs={[
          { id: "runs", label: "Runs", content: <Runs workflowId={workflow.id} /> },
          {
            id: "definition",
            label: "Definition",
            content: may("workflows:update") ? (
              <Editor workflow={workflow} />
            ) : (
              <Panel title="Definition">
                <Json label="Definition" value={workflow.definition} />
              </Panel>
            ),
          },
          ...(may("workflows:execute")
            ? [{ id: "execute", label: "Run now", content: <Execute workflowId={workflow.id} /> }]
            : []),
        ]}
      />
    </>
  );
}

function Toggle({ workflow }: { workflow: WorkflowDetails }) {
  const queries = useQueryClient();
  const mutation = useMutation({
    mutationFn: () => setEnabled(workflow.id, !workflow.enabled),
    onSuccess: () => queries.invalidateQueries({ queryKey: workflowsKey }),
  });
  return (
    <>
      {mutation.error && <Failure error={mutation.error} />}
      <Button busy={mutation.isPending} onClick={() => mutation.mutate()}>
        {workflow.enabled ? "Disable" : "Enable"}
      </Button>
    </>
  );
}

function Runs({ workflowId }: { workflowId: string }) {
  const query = useQuery({ ...runList(workflowId), refetchInterval: POLL_MS });
  return (
    <Panel title="Runs" flush>
      <Loaded query={query} title="The runs could not be loaded">
        {({ executions }) =>
          executions.length === 0 ? (
            <Empty title="It has not run yet">
              A run starts when a trigger fires, or from “Run now”.
            </Empty>
          ) : (
            <RunTable runs={executions} />
          )
        }
      </Loaded>
    </Panel>
  );
}

function Editor({ workflow }: { workflow: WorkflowDetails }) {
  const queries = useQueryClient();
  const saving = useMutation({
    mutationFn: (definition: Record<string, unknown>) => updateWorkflow(workflow, definition),
    onSuccess: () => queries.invalidateQueries({ queryKey: workflowsKey }),
  });
  return (
    <Panel title={`Definition, version ${workflow.version ?? "–"}`}>
      <div className="flex flex-col gap-3">
        <DefinitionEditor
          initial={workflow.definition}
          submit="Save as new version"
          busy={saving.isPending}
          error={saving.error}
          onSubmit={(definition) => saving.mutate(definition)}
        />
        {saving.data && <ValidationWarnings warnings={saving.data.validation.details.warnings} />}
      </div>
    </Panel>
  );
}

function Execute({ workflowId }: { workflowId: string }) {
  const router = useRouter();
  const [dryRun, setDryRun] = useState(false);
  const execution = useMutation({
    mutationFn: (input: Record<string, unknown>) =>
      executeWorkflow(workflowId, { input_data: input, dry_run: dryRun }),
    onSuccess: ({ execution_id }) =>
      router.push(runHref({ workflow_id: workflowId, execution_id })),
  });
  return (
    <Panel title="Run now">
      <JsonForm
        label="Input"
        hint="Expressions read it as trigger.input."
        initial={{}}
        rows={6}
        submit="Run now"
        busy={execution.isPending || execution.isSuccess}
        error={execution.error}
        errorTitle="The run was not started"
        before={
          <label className="flex items-center gap-2">
            <input
              type="checkbox"
              className="size-4 accent-accent"
              checked={dryRun}
              onChange={(event) => setDryRun(event.target.checked)}
            />
            Dry run: leave out what acts on devices and other servers
          </label>
        }
        onSubmit={(input) => execution.mutate(input)}
      />
    </Panel>
  );
}
