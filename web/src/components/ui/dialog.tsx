"use client";

import { X } from "lucide-react";
import { useId, useLayoutEffect, useRef, type ReactNode } from "react";

interface DialogProps {
  onClose: () => void;
  title: string;
  description: string;
  /** Closing it by Escape is refused and there is no cross: what is shown would be lost. */
  sticky?: boolean;
  children: ReactNode;
}

/**
 * A modal dialog, open while it is mounted.
 *
 * The browser's own element: it makes the page behind inert, keeps the focus inside and gives it
 * back, with no injected style that a strict Content-Security-Policy would refuse.
 */
export function Dialog({ onClose, title, description, sticky = false, children }: DialogProps) {
  const id = useId();
  const element = useRef<HTMLDialogElement>(null);

  // Closed before it is taken from the page: only then does the focus go back where it came from.
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);

  return (
    <dialog
      ref={element}
      aria-labelledby={`${id}-title`}
      aria-describedby={`${id}-description`}
      onKeyDown={(event) => {
        // Here and not in `cancel`, which browsers do not ask a second time.
        if (event.key !== "Escape") return;
        event.preventDefault();
        if (!sticky) onClose();
      }}
      onCancel={(event) => {
        event.preventDefault();
        if (!sticky) onClose();
      }}
      onClose={(event) => {
        // The browser closed it all the same, by the phone's way back for instance.
        const { isConnected, open } = event.currentTarget;
        if (isConnected && !open) onClose();
      }}
      className="m-auto max-h-[90dvh] w-[min(34rem,calc(100vw-2rem))] rounded-lg border border-line bg-surface p-5 text-ink shadow-xl backdrop:bg-black/45"
    >
      <div className="flex flex-col gap-4">
        <div className="pr-8">
          <h2 id={`${id}-title`} className="text-lg font-semibold">
            {title}
          </h2>
          <p id={`${id}-description`} className="text-muted">
            {description}
          </p>
        </div>
        {children}
        {!sticky && (
          // Last, so that the dialog opens with the focus on its first field.
          <button
            type="button"
            onClick={onClose}
            aria-label="Close"
            className="absolute top-4 right-4 rounded-md p-1 text-muted hover:bg-raised hover:text-ink"
          >
            <X aria-hidden size={18} />
          </button>
        )}
      </div>
    </dialog>
  );
}
