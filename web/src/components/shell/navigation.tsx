"use client";

import { Bell, Cpu, LayoutDashboard, Workflow } from "lucide-react";
import Link from "next/link";
import { usePathname } from "next/navigation";

import { cx } from "@/lib/cx";

const ITEMS = [
  { href: "/", label: "Overview", icon: LayoutDashboard },
  { href: "/devices/", label: "Devices", icon: Cpu },
  { href: "/workflows/", label: "Workflows", icon: Workflow },
  { href: "/alerts/", label: "Alerts", icon: Bell },
] as const;

/** Down the side on a wide screen, along the bottom on a narrow one. */
export function Navigation() {
  const pathname = usePathname();
  return (
    <nav aria-label="Main" className="flex md:flex-col md:gap-0.5">
      {ITEMS.map(({ href, label, icon: Icon }) => {
        const current = href === "/" ? pathname === "/" : pathname.startsWith(href);
        return (
          <Link
            key={href}
            href={href}
            aria-current={current ? "page" : undefined}
            className={cx(
              "flex flex-1 flex-col items-center gap-0.5 px-2 py-1.5 text-xs font-medium -outline-offset-2",
              "md:flex-none md:flex-row md:gap-2.5 md:rounded-md md:px-2.5 md:text-base",
              current ? "text-accent md:bg-raised" : "text-muted hover:text-ink",
            )}
          >
            <Icon aria-hidden size={17} />
            {label}
          </Link>
        );
      })}
    </nav>
  );
}
