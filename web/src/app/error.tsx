"use client";

import { Failure } from "@/components/ui/states";

/** What is left when a page's own code fails. */
export default function PageError({ error, reset }: { error: Error; reset: () => void }) {
  return (
    <main className="mx-auto mt-24 max-w-md p-4">
      <h1 className="sr-only">Error</h1>
      <Failure error={error} title="This page failed" onRetry={reset} />
    </main>
  );
}
