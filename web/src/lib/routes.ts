/** Addresses of pages about one thing: its id is a parameter, since the pages are static files. */

export function deviceHref(id: string): string {
  return `/devices/view/?id=${id}`;
}

export function workflowHref(id: string): string {
  return `/workflows/view/?id=${id}`;
}

export function runHref(run: { workflow_id: string; execution_id: string }): string {
  return `/workflows/runs/view/?workflow=${run.workflow_id}&id=${run.execution_id}`;
}
