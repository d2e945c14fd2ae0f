"use client";

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRouter } from "next/navigation";

import { DefinitionEditor } from "@/components/workflows/definition-editor";
import { PageHeader } from "@/components/ui/page-header";
import { Panel } from "@/components/ui/panel";
import { createWorkflow, workflowsKey } from "@/lib/api/workflows";
import { TEMPLATE } from "@/lib/workflow-template";
import { workflowHref } from "@/lib/routes";

export function NewWorkflowPage() {
  const router = useRouter();
  const queries = useQueryClient();
  const creation = useMutation({
    mutationFn: createWorkflow,
    onSuccess: async ({ workflow }) => {
      await queries.invalidateQueries({ queryKey: workflowsKey });
      router.push(workflowHref(workflow.id));
    },
  });
  return (
    <>
      <PageHeader title="New workflow" parent={{ href: "/workflows/", label: "Workflows" }} />
      <Panel title="Definition">
        <DefinitionEditor
          initial={TEMPLATE}
          submit="Create workflow"
          busy={creation.isPending || creation.isSuccess}
          error={creation.error}
          onSubmit={(definition) => creation.mutate(definition)}
        />
      </Panel>
    </>
  );
}
