import type { ReactNode } from "react";

import { Account } from "@/components/shell/account";
import { Brand } from "@/components/shell/brand";
import { Navigation } from "@/components/shell/navigation";
import { SessionGate } from "@/components/shell/session-gate";

export default function DashboardLayout({ children }: { children: ReactNode }) {
  return (
    <SessionGate>
      <a
        href="#content"
        className="sr-only z-50 rounded-md bg-accent px-3 py-2 text-on-accent focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
      >
        Skip to content
      </a>
      <div className="md:grid md:min-h-dvh md:grid-cols-[13rem_minmax(0,1fr)]">
        <header className="flex items-center justify-between gap-3 border-b border-line bg-surface px-4 py-2 md:sticky md:top-0 md:h-dvh md:flex-col md:items-stretch md:justify-start md:gap-5 md:border-r md:border-b-0 md:p-3">
          <div className="md:px-2.5 md:pt-1">
            <Brand />
          </div>
          <div className="fixed inset-x-0 bottom-0 z-30 border-t border-line bg-surface md:static md:border-0">
            <Navigation />
          </div>
          <div className="md:mt-auto md:pl-2.5">
            <Account />
          </div>
        </header>
        <main id="content" tabIndex={-1} className="mx-auto w-full max-w-7xl p-4 pb-20 md:p-6">
          {children}
        </main>
      </div>
    </SessionGate>
  );
}
