"use client";

import { usePathname, useRouter } from "next/navigation";
import { useEffect, useState, type ReactNode } from "react";

import { Failure, Loading } from "@/components/ui/states";
import { restore, useSession } from "@/lib/auth/session";
import { loginPath } from "@/lib/auth/return-path";

/** Shows its children to a signed-in user; sends everyone else to sign in and back. */
export function SessionGate({ children }: { children: ReactNode }) {
  const status = useSession((session) => session.status);
  const [error, setError] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  const router = useRouter();
  const pathname = usePathname();

  useEffect(() => {
    if (status !== "unknown") return;
    let current = true;
    restore().catch((failure: unknown) => {
      if (current) setError(failure);
    });
    return () => {
      current = false;
    };
  }, [status, attempt]);

  useEffect(() => {
    if (status === "anonymous") router.replace(loginPath(pathname + window.location.search));
  }, [status, pathname, router]);

  if (status === "signed-in") return <>{children}</>;
  if (error !== null) {
    return (
      <main className="mx-auto mt-24 max-w-md p-4">
        <Failure
          error={error}
          title="Your session could not be checked"
          onRetry={() => {
            setError(null);
            setAttempt(attempt + 1);
          }}
        />
      </main>
    );
  }
  return (
    <main className="mx-auto mt-24 max-w-md">
      <Loading label="Checking your session" />
    </main>
  );
}
