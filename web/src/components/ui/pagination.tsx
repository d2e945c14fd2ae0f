import { Button } from "@/components/ui/button";
import { formatCount } from "@/lib/format";

interface PaginationProps {
  page: number;
  pages: number;
  total: number;
  /** Plural of what is listed. */
  noun: string;
  onPage: (page: number) => void;
}

export function Pagination({ page, pages, total, noun, onPage }: PaginationProps) {
  return (
    <nav
      aria-label="Pages"
      className="flex items-center justify-between gap-3 border-t border-line px-4 py-2 text-muted"
    >
      <span>
        {formatCount(total)} {noun}
      </span>
      {pages > 1 && (
        <span className="flex items-center gap-2">
          <Button onClick={() => onPage(page - 1)} disabled={page <= 1}>
            Previous
          </Button>
          <span className="whitespace-nowrap">
            {page} of {pages}
          </span>
          <Button onClick={() => onPage(page + 1)} disabled={page >= pages}>
            Next
          </Button>
        </span>
      )}
    </nav>
  );
}
