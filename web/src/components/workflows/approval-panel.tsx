"use client";

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { Button } from "@/components/ui/button";
import { Field, Input } from "@/components/ui/field";
import { Panel } from "@/components/ui/panel";
import { Failure } from "@/components/ui/states";
import { decide, runsKey, type RunAddress } from "@/lib/api/workflows";
import type { StepRun } from "@/lib/api/types";

function messageOf(input: unknown): string {
  return typeof input === "object" && input !== null && "message" in input
    ? String(input.message)
    : "";
}

/** A run waits for a person: this one may say yes or no. */
export function ApprovalPanel({ address, step }: { address: RunAddress; step: StepRun }) {
  const queries = useQueryClient();
  const [comment, setComment] = useState("");
  const decision = useMutation({
    mutationFn: (approved: boolean) => decide(address, { step: step.path, approved, comment }),
    onSuccess: () => queries.invalidateQueries({ queryKey: runsKey }),
  });
  const busy = (approved: boolean) =>
    (decision.isPending || decision.isSuccess) && decision.variables === approved;
  const settled = decision.isPending || decision.isSuccess;
  return (
    <Panel title="Waiting for your approval" className="border-warn/60">
      <div className="flex flex-col gap-3">
        <p>
          {messageOf(step.input) || "This run goes on when somebody has decided."}{" "}
          <code className="font-mono text-sm text-muted">{step.path}</code>
        </p>
        <Field label="Comment">
          {(control) => (
            <Input
              {...control}
              value={comment}
              maxLength={1000}
              onChange={(event) => setComment(event.target.value)}
            />
          )}
        </Field>
        {decision.error && <Failure error={decision.error} title="The answer was not taken" />}
        <div className="flex gap-2">
          <Button
            variant="primary"
            busy={busy(true)}
            disabled={settled}
            onClick={() => decision.mutate(true)}
          >
            Approve
          </Button>
          <Button
            variant="danger"
            busy={busy(false)}
            disabled={settled}
            onClick={() => decision.mutate(false)}
          >
            Reject
          </Button>
        </div>
      </div>
    </Panel>
  );
}
