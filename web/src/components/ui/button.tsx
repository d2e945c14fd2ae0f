import { LoaderCircle } from "lucide-react";
import type { ButtonHTMLAttributes } from "react";

import { cx } from "@/lib/cx";

const VARIANTS = {
  primary: "bg-accent text-on-accent border-accent hover:opacity-90",
  secondary: "bg-surface text-ink border-line hover:bg-raised",
  danger: "bg-surface text-bad border-line hover:bg-raised",
  quiet: "border-transparent text-muted hover:bg-raised hover:text-ink",
} as const;

export type ButtonVariant = keyof typeof VARIANTS;

export function buttonClass(variant: ButtonVariant = "secondary", className?: string): string {
  return cx(
    "inline-flex h-8 items-center justify-center gap-1.5 rounded-md border px-3 font-medium",
    "whitespace-nowrap transition-colors disabled:opacity-55",
    VARIANTS[variant],
    className,
  );
}

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  variant?: ButtonVariant;
  /** Shows that the work it started is under way, and takes no second press. */
  busy?: boolean;
}

export function Button({
  variant,
  busy = false,
  type = "button",
  className,
  disabled,
  children,
  ...rest
}: ButtonProps) {
  return (
    <button
      type={type}
      className={buttonClass(variant, className)}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      {...rest}
    >
      {busy && <LoaderCircle aria-hidden size={14} className="animate-spin" />}
      {children}
    </button>
  );
}
