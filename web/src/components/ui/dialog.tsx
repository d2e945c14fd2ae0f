"use client";

import { X } from "lucide-react";
import { useEffect, useId, useRef, type ReactNode } from "react";

interface DialogProps {
  onClose: () => void;
  title: string;
  description: string;
  /** Closing by Escape or the cross is refused: what is shown would be lost. */
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

  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);

  return (
    <dialog
      ref={element}
      aria-labelledby={`${id}-title`}
      aria-describedby={`${id}-description`}
      onCancel={(event) => {
        // The browser would close it by itself; what is open is for the parent to say.
        event.preventDefault();
        if (!sticky) onClose();
      }}
      className="m-auto max-h-[90dvh] w-[min(34rem,calc(100vw-2rem))] rounded-lg border border-line bg-surface p-5 text-ink shadow-xl backdrop:bg-black/45"
    >
      <div className="flex flex-col gap-4">
        <div className="flex items-start justify-between gap-4">
          <div>
            <h2 id={`${id}-title`} className="text-lg font-semibold">
              {title}
            </h2>
            <p id={`${id}-description`} className="text-muted">
              {description}
            </p>
          </div>
          {!sticky && (
            <button
              type="button"
              onClick={onClose}
              aria-label="Close"
              className="-mt-1 -mr-1 rounded-md p-1 text-muted hover:bg-raised hover:text-ink"
            >
              <X aria-hidden size={18} />
            </button>
          )}
        </div>
        {children}
      </div>
    </dialog>
  );
}
