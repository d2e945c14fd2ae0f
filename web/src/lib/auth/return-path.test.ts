import { expect, test } from "vitest";

import { loginPath, returnPath } from "@/lib/auth/return-path";

test.each([
  ["/devices/view/?id=1", "/devices/view/?id=1"],
  [null, "/"],
  ["", "/"],
  ["https://evil.example/", "/"],
  ["//evil.example/", "/"],
  ["/\\evil.example/", "/"],
  ["/\t/evil.example/", "/"],
  ["javascript:alert(1)", "/"],
  ["/login/?next=/login/", "/"],
])("after signing in, %j leads to %j", (next, path) => {
  expect(returnPath(next)).toBe(path);
});

test("the sign-in page remembers where the user wanted to be", () => {
  expect(loginPath("/devices/view/?id=1")).toBe("/login/?next=%2Fdevices%2Fview%2F%3Fid%3D1");
  expect(loginPath("/")).toBe("/login/");
});
