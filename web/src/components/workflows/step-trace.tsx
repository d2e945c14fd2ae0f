"use client";

import { Json } from "@/components/ui/json";
import { StatusBadge } from "@/components/ui/status-badge";
import { Ago, Elapsed } from "@/components/ui/time";
import type { StepRun } from "@/lib/api/types";

/** What a run did, step by step. A step inside a block is set in below it. */
export function StepTrace({ steps }: { steps: readonly StepRun[] }) {
  return (
    <ol aria-label="Steps" className="divide-y divide-line">
      {steps.map((step) => (
        <Step key={step.path} step={step} />
      ))}
    </ol>
  );
}

function depthOf(path: string): number {
  // A path alternates steps and branches: gate.then.stop.
  return Math.floor(path.split(".").length / 2);
}

function Step({ step }: { step: StepRun }) {
  return (
    <li
      className="px-4 py-2.5"
      style={{ paddingInlineStart: `${1 + depthOf(step.path) * 1.25}rem` }}
    >
      <details>
        <summary className="flex flex-wrap items-center gap-x-3 gap-y-1 rounded">
          <code className="font-mono text-sm font-medium break-all">{step.path}</code>
          <span className="text-muted">{step.step_type}</span>
          <StatusBadge status={step.status} />
          {step.attempt > 1 && <span className="text-muted">attempt {step.attempt}</span>}
          <span className="ml-auto flex gap-3 text-muted">
            {step.started_at && <Elapsed start={step.started_at} end={step.completed_at} />}
            <Ago time={step.started_at} />
          </span>
        </summary>
        <div className="mt-2 grid gap-3 md:grid-cols-2">
          <Part title="Input" step={step.path} value={step.input} />
          <Part title="Output" step={step.path} value={step.output} />
          {step.error != null && <Part title="Error" step={step.path} value={step.error} />}
        </div>
      </details>
    </li>
  );
}

function Part({ title, step, value }: { title: string; step: string; value: unknown }) {
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <h3 className="text-sm font-medium text-muted">{title}</h3>
      {value == null ? (
        <p className="text-muted">none</p>
      ) : (
        <Json label={`${title} of ${step}`} value={value} />
      )}
    </div>
  );
}
