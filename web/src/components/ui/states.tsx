import { CircleAlert } from "lucide-react";
import type { ReactNode } from "react";

import { Button } from "@/components/ui/button";
import { ApiError, type Fault } from "@/lib/api/problem";

/** What a list shows when there is nothing in it, and how to change that. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="flex flex-col items-center gap-2 px-4 py-10 text-center">
      <p className="font-medium">{title}</p>
      {children && <div className="max-w-prose text-muted">{children}</div>}
    </div>
  );
}

/** The shape of what is coming. */
export function Loading({ label = "Loading", rows = 3 }: { label?: string; rows?: number }) {
  return (
    <div role="status" className="flex flex-col gap-3 p-4">
      <span className="sr-only">{label}</span>
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} aria-hidden className="h-4 animate-pulse rounded bg-raised" />
      ))}
    </div>
  );
}

interface FailureProps {
  error: unknown;
  /** What was being done: "The devices could not be loaded". */
  title?: string;
  onRetry?: () => void;
}

/** What went wrong, where, and a way to try again. */
export function Failure({ error, title, onRetry }: FailureProps) {
  const message = error instanceof Error ? error.message : String(error);
  const faults = error instanceof ApiError ? error.faults : [];
  const heading = title ?? (error instanceof ApiError ? error.title : "It did not work");
  return (
    <div
      role="alert"
      className="flex gap-2.5 rounded-md border border-bad/40 bg-bad/5 p-3 text-ink"
    >
      <CircleAlert aria-hidden size={18} className="mt-px shrink-0 text-bad" />
      <div className="flex min-w-0 flex-1 flex-col gap-1.5">
        <p className="font-medium text-bad">{heading}</p>
        {message !== heading && <p className="break-words">{message}</p>}
        {faults.length > 0 && <FaultList faults={faults} />}
        {onRetry && (
          <div>
            <Button onClick={onRetry}>Try again</Button>
          </div>
        )}
      </div>
    </div>
  );
}

/** Faults with the places they are in. */
export function FaultList({ faults }: { faults: readonly Fault[] }) {
  return (
    <ul className="flex flex-col gap-1.5">
      {faults.map((fault, index) => (
        <li key={index} className="break-words">
          <code className="mr-2 rounded bg-raised px-1 py-0.5 font-mono text-xs">
            {fault.pointer || "/"}
          </code>
          {fault.message}
          {fault.hint && <span className="block text-muted">{fault.hint}</span>}
        </li>
      ))}
    </ul>
  );
}

interface LoadedProps<T> {
  query: {
    data: T | undefined;
    error: unknown;
    isPending: boolean;
    refetch: () => unknown;
  };
  title: string;
  rows?: number;
  children: (data: T) => ReactNode;
}

/** The three ends of a query: loading, failed, there. Old data stays while a refresh fails. */
export function Loaded<T>({ query, title, rows, children }: LoadedProps<T>) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isPending) return <Loading {...(rows && { rows })} />;
  return (
    <div className="p-4">
      <Failure error={query.error} title={title} onRetry={() => void query.refetch()} />
    </div>
  );
}
