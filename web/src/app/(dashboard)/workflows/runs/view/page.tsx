import type { Metadata } from "next";
import { Suspense } from "react";

import { RunPage } from "@/components/workflows/run-page";

export const metadata: Metadata = { title: "Run" };

export default function Page() {
  return (
    <Suspense>
      <RunPage />
    </Suspense>
  );
}
