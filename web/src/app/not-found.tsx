import Link from "next/link";

import { buttonClass } from "@/components/ui/button";
import { Empty } from "@/components/ui/states";

export default function NotFound() {
  return (
    <main className="mx-auto mt-24 max-w-md">
      <h1 className="sr-only">Page not found</h1>
      <Empty title="There is no such page">
        <Link href="/" className={buttonClass("secondary")}>
          Go to the overview
        </Link>
      </Empty>
    </main>
  );
}
