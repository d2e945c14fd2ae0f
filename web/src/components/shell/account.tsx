"use client";

import { useQueryClient } from "@tanstack/react-query";
import { LogOut } from "lucide-react";
import { useState } from "react";

import { Button } from "@/components/ui/button";
import { signOut, useSession } from "@/lib/auth/session";

export function Account() {
  const user = useSession((session) => session.me?.user);
  const queries = useQueryClient();
  const [busy, setBusy] = useState(false);

  async function leave() {
    setBusy(true);
    await signOut();
    // The next user of this tab must not see the last one's data.
    queries.clear();
  }

  return (
    <div className="flex items-center gap-2 md:justify-between">
      <span className="hidden min-w-0 truncate text-sm text-muted md:block" title={user?.email}>
        {user?.email}
      </span>
      <Button variant="quiet" onClick={() => void leave()} busy={busy} aria-label="Sign out">
        {!busy && <LogOut aria-hidden size={15} />}
        <span className="md:hidden">Sign out</span>
      </Button>
    </div>
  );
}
