import { useCallback } from "react";

import { useSession } from "@/lib/auth/session";

/** Tells whether the signed-in user has a permission. The API decides; this only hides buttons. */
export function useMay(): (permission: string) => boolean {
  const permissions = useSession((session) => session.me?.permissions);
  return useCallback((permission) => permissions?.includes(permission) ?? false, [permissions]);
}
