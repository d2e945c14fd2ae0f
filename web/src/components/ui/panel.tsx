import type { ReactNode } from "react";
import { useId } from "react";

import { cx } from "@/lib/cx";

interface PanelProps {
  title: string;
  actions?: ReactNode;
  /** Lets tables and lists reach the panel's edges. */
  flush?: boolean;
  className?: string;
  children: ReactNode;
}

/** A titled region of a page. */
export function Panel({ title, actions, flush = false, className, children }: PanelProps) {
  const id = useId();
  return (
    <section
      aria-labelledby={id}
      className={cx("min-w-0 rounded-lg border border-line bg-surface", className)}
    >
      <div className="flex min-h-11 flex-wrap items-center justify-between gap-x-3 gap-y-2 border-b border-line px-4 py-1.5">
        <h2 id={id} className="font-semibold">
          {title}
        </h2>
        {actions && <div className="flex flex-wrap items-center gap-2">{actions}</div>}
      </div>
      <div className={flush ? undefined : "p-4"}>{children}</div>
    </section>
  );
}
