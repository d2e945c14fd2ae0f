import Link from "next/link";
import type { ReactNode } from "react";

interface PageHeaderProps {
  title: ReactNode;
  /** The page one level up. */
  parent?: { href: string; label: string };
  meta?: ReactNode;
  actions?: ReactNode;
}

export function PageHeader({ title, parent, meta, actions }: PageHeaderProps) {
  return (
    <div className="mb-4 flex flex-wrap items-end justify-between gap-3">
      <div className="min-w-0">
        {parent && (
          <nav aria-label="Breadcrumb" className="text-sm">
            <Link href={parent.href} className="text-muted hover:text-ink hover:underline">
              {parent.label}
            </Link>
          </nav>
        )}
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <h1 className="text-xl font-semibold break-words">{title}</h1>
          {meta}
        </div>
      </div>
      {actions && <div className="flex flex-wrap items-center gap-2">{actions}</div>}
    </div>
  );
}
