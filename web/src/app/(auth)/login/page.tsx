import type { Metadata } from "next";
import { Suspense } from "react";

import { SignInForm } from "@/components/shell/sign-in-form";
import { Brand } from "@/components/shell/brand";

export const metadata: Metadata = { title: "Sign in" };

export default function LoginPage() {
  return (
    <main className="mx-auto flex min-h-dvh w-full max-w-sm flex-col justify-center gap-6 p-4">
      <div className="flex flex-col gap-1">
        <Brand />
        <h1 className="text-xl font-semibold">Sign in</h1>
      </div>
      <Suspense>
        <SignInForm />
      </Suspense>
    </main>
  );
}
