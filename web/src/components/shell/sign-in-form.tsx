"use client";

import { useRouter, useSearchParams } from "next/navigation";
import { useEffect, useState } from "react";
import { useForm } from "react-hook-form";

import { Button } from "@/components/ui/button";
import { Field, Input } from "@/components/ui/field";
import { Failure } from "@/components/ui/states";
import type { SignIn } from "@/lib/api/types";
import { returnPath } from "@/lib/auth/return-path";
import { signIn, useSession } from "@/lib/auth/session";

export function SignInForm() {
  const router = useRouter();
  const next = returnPath(useSearchParams().get("next"));
  const signedIn = useSession((session) => session.status === "signed-in");
  const [error, setError] = useState<unknown>(null);
  const {
    register,
    handleSubmit,
    formState: { errors, isSubmitting },
  } = useForm<SignIn>({ defaultValues: { email: "", password: "" } });

  useEffect(() => {
    if (signedIn) router.replace(next);
  }, [signedIn, next, router]);

  async function submit(credentials: SignIn) {
    setError(null);
    try {
      await signIn(credentials);
    } catch (failure) {
      setError(failure);
    }
  }

  return (
    <form
      noValidate
      className="flex flex-col gap-4 rounded-lg border border-line bg-surface p-5"
      onSubmit={(event) => void handleSubmit(submit)(event)}
    >
      {error !== null && <Failure error={error} title="You could not be signed in" />}
      <Field label="E-mail" error={errors.email?.message}>
        {(control) => (
          <Input
            type="email"
            autoComplete="username"
            autoFocus
            {...control}
            {...register("email", { required: "Enter your e-mail address" })}
          />
        )}
      </Field>
      <Field label="Password" error={errors.password?.message}>
        {(control) => (
          <Input
            type="password"
            autoComplete="current-password"
            {...control}
            {...register("password", { required: "Enter your password" })}
          />
        )}
      </Field>
      <Button type="submit" variant="primary" busy={isSubmitting || signedIn}>
        Sign in
      </Button>
    </form>
  );
}
