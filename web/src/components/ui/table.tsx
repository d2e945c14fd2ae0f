import type { ReactNode, TdHTMLAttributes, ThHTMLAttributes } from "react";

import { cx } from "@/lib/cx";

/**
 * A table that scrolls sideways inside its own box, by keyboard too.
 *
 * Columns may hide by the width of the box (`@lg:`), since the same table stands alone on one page
 * and beside another on the next.
 */
export function Table({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div
      role="region"
      aria-label={label}
      tabIndex={0}
      className="@container relative overflow-x-auto"
    >
      <table className="w-full border-collapse text-left">{children}</table>
    </div>
  );
}

export function Th({ className, ...rest }: ThHTMLAttributes<HTMLTableCellElement>) {
  return (
    <th
      scope="col"
      className={cx(
        "border-b border-line px-3 py-2 text-sm first:pl-4 last:pr-4 font-medium whitespace-nowrap text-muted",
        className,
      )}
      {...rest}
    />
  );
}

export function Td({ className, ...rest }: TdHTMLAttributes<HTMLTableCellElement>) {
  return (
    <td
      className={cx("border-b border-line px-3 py-2 align-top first:pl-4 last:pr-4", className)}
      {...rest}
    />
  );
}

/** A row; the last has no line below, its panel has one. */
export function Row({ children }: { children: ReactNode }) {
  return <tr className="hover:bg-raised/60 [&:last-child>td]:border-b-0">{children}</tr>;
}
