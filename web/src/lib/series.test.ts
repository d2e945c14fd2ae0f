import { expect, test } from "vitest";

import { appendReadings, summarize, toSeries } from "@/lib/series";

const reading = (second: number, metrics: Record<string, number>) => ({
  timestamp: new Date(second * 1000).toISOString(),
  metrics,
});

test("readings become ordered columns, with null where a metric is absent", () => {
  const series = toSeries([reading(2, { b: 20 }), reading(1, { a: 1, b: 10 })]);
  expect(series.time).toEqual([1, 2]);
  expect([...series.columns]).toEqual([
    ["a", [1, null]],
    ["b", [10, 20]],
  ]);
});

test("the window keeps the latest readings, whatever order they arrive in", () => {
  const window = appendReadings(
    [reading(3, {}), reading(5, {})],
    [reading(4, {}), reading(6, {})],
    3,
  );
  expect(window.map(({ timestamp }) => Date.parse(timestamp) / 1000)).toEqual([4, 5, 6]);
});

test("a summary skips gaps and an empty column has none", () => {
  expect(summarize([3, null, 1, 2, null])).toEqual({ latest: 2, lowest: 1, highest: 3 });
  expect(summarize([null])).toBeNull();
});
