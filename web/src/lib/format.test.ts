import { describe, expect, test } from "vitest";

import { NOTHING, elapsed, formatDuration, formatNumber, formatRelative } from "@/lib/format";

describe("durations", () => {
  test.each([
    [0, "0 ms"],
    [840, "840 ms"],
    [4200, "4.2 s"],
    [59_949, "59.9 s"],
    [59_990, "1 min"],
    [200_000, "3 min 20 s"],
    [3_600_000, "1 h"],
    [7_500_000, "2 h 5 min"],
    [3 * 86_400_000 + 4 * 3_600_000 + 1000, "3 d 4 h"],
    [-1, NOTHING],
    [NaN, NOTHING],
    [null, NOTHING],
  ])("%s ms reads %s", (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });
});

describe("relative times", () => {
  const now = Date.parse("2026-05-01T12:00:00Z");

  test.each([
    ["2026-05-01T11:59:58Z", "now"],
    ["2026-05-01T11:59:30Z", "30 sec. ago"],
    ["2026-05-01T11:00:01Z", "59 min. ago"],
    ["2026-05-01T09:00:00Z", "3 hr. ago"],
    ["2026-04-30T12:00:00Z", "yesterday"],
    ["2026-05-01T12:10:00Z", "in 10 min."],
    ["nonsense", NOTHING],
    [null, NOTHING],
  ])("%s reads %s", (time, text) => {
    expect(formatRelative(time, now)).toBe(text);
  });
});

test("measurements keep six significant digits", () => {
  expect(formatNumber(1420.123456)).toBe("1,420.12");
  expect(formatNumber(Infinity)).toBe(NOTHING);
  expect(formatNumber(undefined)).toBe(NOTHING);
});

test("an unfinished span grows, and a server clock ahead of ours does not make it negative", () => {
  const now = Date.parse("2026-05-01T12:00:10Z");
  expect(elapsed("2026-05-01T12:00:00Z", null, now)).toBe(10_000);
  expect(elapsed("2026-05-01T12:00:00Z", "2026-05-01T12:00:03Z", now)).toBe(3000);
  expect(elapsed("2026-05-01T12:00:12Z", null, now)).toBe(0);
});
