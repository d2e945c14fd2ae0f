import { expect, test } from "vitest";

import { mergePatch } from "@/lib/merge-patch";

test.each([
  ["nothing changed", { a: 1, b: [1, { c: 2 }] }, { a: 1, b: [1, { c: 2 }] }, {}],
  ["a changed value", { a: 1 }, { a: 2 }, { a: 2 }],
  ["a removed name", { a: 1, b: 2 }, { b: 2 }, { a: null }],
  ["an inner change alone", { a: { b: 1, c: 2 } }, { a: { b: 1, c: 3 } }, { a: { c: 3 } }],
  ["an inner removal", { a: { b: 1 } }, { a: {} }, { a: { b: null } }],
  ["a list, as a whole", { a: [1, 2] }, { a: [1] }, { a: [1] }],
  ["an object in the place of a value", { a: 1 }, { a: { b: 1 } }, { a: { b: 1 } }],
  ["a new empty object", {}, { a: {} }, { a: {} }],
])("%s", (_, from, to, patch) => {
  expect(mergePatch(from, to)).toEqual(patch);
});
