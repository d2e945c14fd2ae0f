import type { Metadata } from "next";
import { Suspense } from "react";

import { WorkflowPage } from "@/components/workflows/workflow-page";

export const metadata: Metadata = { title: "Workflow" };

export default function Page() {
  return (
    <Suspense>
      <WorkflowPage />
    </Suspense>
  );
}
